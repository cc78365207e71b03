"""Percentiles and histograms of many samples at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["histograms", "percentiles"]

_LOW, _HIGH = 0.5, 99.5


def percentiles(samples: Tensor, percents: Sequence[float]) -> Tensor:
    """Percentiles of every row, between neighbours by straight line.

    Args:
        samples: ``(B, S)``; what is not finite does not count.
        percents: P of them, 0 to 100.

    Returns:
        ``(B, P)``, NaN for a row without finite values.

    Example:
        >>> percentiles(torch.tensor([[4.0, 0.0, 2.0, torch.nan]]), [50, 75])
        tensor([[2., 3.]])
    """
    ordered, count = _ordered(samples)
    at = torch.tensor(percents, dtype=ordered.dtype) / 100 * (count - 1).clamp(min=0)[:, None]
    below = at.floor().long()
    above = at.ceil().long()
    found = ordered.gather(1, below).lerp(ordered.gather(1, above), at - below)

    return torch.where(count[:, None] > 0, found, torch.nan)


def histograms(samples: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Equal bins over each row's middle 99 %; the end bins have what is beyond.

    Args:
        samples: ``(B, S)``; what is not finite does not count.
        bins: of a histogram.

    Returns:
        Lower ends ``(B,)``, upper ends ``(B,)``, and counts ``(B, bins)`` int64.

    Example:
        >>> histograms(torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0]]), 2)[2]
        tensor([[2, 3]])
    """
    low, high = percentiles(samples, (_LOW, _HIGH)).unbind(1)
    flat = ~(high > low)
    low, high = torch.where(flat, low - 0.5, low), torch.where(flat, high + 0.5, high)

    inside = (samples - low[:, None]) / (high - low)[:, None] * bins
    finite = samples.isfinite()
    at = torch.where(finite, inside, 0).floor().clamp(0, bins - 1).long()
    counts = torch.zeros(len(samples), bins, dtype=torch.int64)

    return low, high, counts.scatter_add_(1, at, finite.long())


def _ordered(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in rising order, NaN last, and how many are finite."""
    finite = samples.isfinite()

    return torch.where(finite, samples, torch.nan).sort(1).values, finite.sum(1)
