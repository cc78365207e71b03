"""Inference on a domain without statistics: refuse, take the nearest one, or all together."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .. import reference
from .._errors import explain

__all__ = [
    "Unseen",
    "check_unseen",
    "nearest",
    "refuse_unseen",
    "with_mean",
    "with_pooled",
]

Unseen = Literal["error", "nearest", "pooled"]
"""``"error"``: raise. ``"nearest"``: the domain under which the batch is most likely.
``"pooled"``: all domains together, in equal shares."""


def check_unseen(who: str, unseen: Any) -> None:
    """``unseen`` is a known policy.

    Raises:
        ValueError: it is not.
    """
    known = get_args(Unseen)
    if unseen not in known:
        raise ValueError(
            explain(who, f"unseen must be one of {known}", f"unseen={unseen!r}", "Use one")
        )


def refuse_unseen(who: str, labels: list[int]) -> None:
    """Raise, with the ways out.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        explain(
            who,
            "in eval mode a domain must have been trained",
            f"domains {labels} without a batch (-1: unknown)",
            "Train them, or use unseen='nearest' or unseen='pooled'",
        )
    )


def with_mean(table: Tensor | None, seen: Tensor) -> Tensor | None:
    """One more row, the mean of the seen domains': ``(D + 1, C)``."""
    if table is None:
        return None

    share = seen.to(table.dtype)
    return torch.cat([table, (share / share.sum()).unsqueeze(0) @ table])


def with_pooled(mean: Tensor, var: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """One more row: mean and variance of the mixture of the seen domains in equal shares."""
    means = with_mean(mean, seen)
    assert means is not None
    gap = mean - means[-1]
    spread = with_mean(var + gap * gap, seen)
    assert spread is not None

    return means, torch.cat([var, spread[-1:]])


def nearest(
    input: Tensor,
    mask: Tensor | None,
    labels: Tensor,
    mean: Tensor,
    var: Tensor,
    seen: Tensor,
    eps: float,
) -> Tensor:
    r"""For each label the seen domain under which its samples are most likely.

    .. math:: \operatorname{argmin}_d \sum_c \log \sigma_{dc}^2
        + \frac{s_c^2 + (m_c - \mu_{dc})^2}{\sigma_{dc}^2}

    with m and s² the mean and variance of all samples of that label: the divergence of diagonal
    Gaussians, KL(batch ‖ domain), up to what is the same for every domain.

    Args:
        input: ``(N, C, *)``.
        mask: bool ``(N, *)`` or None.
        labels: int64 ``(N,)``, -1 or a domain.
        mean: ``(D, C)``.
        var: ``(D, C)``.
        seen: bool ``(D,)``.
        eps: added to var.

    Returns:
        int64 ``(D + 1,)``; the last one is for label -1.
    """
    domains = mean.shape[0]
    index = torch.where(labels < 0, domains, labels)
    with torch.no_grad():
        own_mean, own_var, _ = reference.batch_norm_groups_stats(input, mask, index, domains + 1)
        var = var + eps
        gap = own_mean.unsqueeze(1) - mean
        cost = (var.log() + (own_var.unsqueeze(1) + gap * gap) / var).sum(2)

        return cost.masked_fill(~seen, torch.inf).argmin(1)
