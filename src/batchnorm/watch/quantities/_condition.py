"""How far from white the values of a layer are."""

import torch
from torch import Tensor

__all__ = ["condition"]


def condition(rows: Tensor) -> tuple[float, float]:
    r"""Condition number and effective rank of the covariance of rows.

    Args:
        rows: ``(R, C)``, one position each.

    Returns:
        :math:`\lambda_{\max}/\lambda_{\min}`, infinite where rounding hides the smallest or there
        are no more rows than columns; and :math:`(\sum\lambda)^2/\sum\lambda^2`, from 1 to C.

    Example:
        >>> condition(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]))
        (4.0..., 1.47...)
    """
    rows = rows.detach().double()
    rows = rows[rows.isfinite().all(1)]
    if len(rows) < 2:
        return torch.nan, torch.nan

    rows = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(rows.T @ rows / (len(rows) - 1)).clamp(min=0)
    least, most = float(values[0]), float(values[-1])
    hidden = least <= most * len(values) * torch.finfo(torch.float64).eps
    squares = float(values.square().sum())
    rank = float(values.sum()) ** 2 / squares if squares else torch.nan

    return torch.inf if hidden or len(rows) <= len(values) else most / least, rank
