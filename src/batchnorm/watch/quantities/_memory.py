"""Running statistics against a batch's."""

import torch
from torch import Tensor

from ..._types import BatchStats
from ._sampling import standard_error

__all__ = ["distance"]


def distance(
    stats: BatchStats, spread: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[float, float, float]:
    r"""How far a batch is from what a layer remembers; root mean squares over the channels.

    Args:
        stats: of the batch.
        spread: of its examples; None: unknown.
        mean: running mean ``(C,)``.
        var: running variance ``(C,)``.
        eps: of the layer.

    Returns:
        The distance of the means in running standard deviations; that of the logarithms of the
        standard deviations; and that of the means in standard errors (NaN without ``spread``).

    Example:
        >>> stats = BatchStats(torch.tensor(9), torch.tensor([3.0]), torch.tensor([4.0]))
        >>> distance(stats, torch.tensor([81.0]), torch.tensor([1.0]), torch.tensor([4.0]), 0.0)
        (1.0, 0.0588..., 2.0)
    """
    apart = stats.mean - mean
    of_mean = apart / (var + eps).sqrt()
    unbiased = stats.var * (stats.count / (stats.count - 1).clamp(min=1))
    of_std = 0.5 * ((unbiased + eps) / (var + eps)).log()
    in_errors = torch.full_like(apart, torch.nan)
    if spread is not None:
        in_errors = torch.where(apart == 0, 0.0, apart / standard_error(stats, spread))

    return _size(of_mean), _size(of_std), _size(in_errors)


def _size(values: Tensor) -> float:
    values = values[values.isfinite()]

    return float(values.square().mean().sqrt()) if values.numel() else torch.nan
