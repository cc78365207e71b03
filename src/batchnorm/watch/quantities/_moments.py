"""Mean and spread of a whole tensor, from those of its channels."""

import torch

from ..._types import BatchStats

__all__ = ["nonfinite", "overall"]


def overall(stats: BatchStats) -> tuple[float, float]:
    """Mean and standard deviation of all values, in units of x; channels with NaN are left out.

    Args:
        stats: of the channels, all with the same count.

    Example:
        >>> overall(BatchStats(torch.tensor(2), torch.tensor([0.0, 4.0]), torch.tensor([5.0, 5.0])))
        (2.0, 3.0)
    """
    ok = stats.is_finite
    mean, var = stats.mean[ok].double(), stats.var[ok].double()
    if mean.numel() == 0:
        return torch.nan, torch.nan

    between = mean.var(correction=0)

    return float(mean.mean()), float((var.mean() + between).sqrt())


def nonfinite(stats: BatchStats) -> float:
    """How many channels have a NaN or an infinity.

    Example:
        >>> nonfinite(BatchStats(torch.tensor(2), torch.tensor([0.0, torch.nan]), torch.ones(2)))
        1.0
    """
    return float((~stats.is_finite).sum())
