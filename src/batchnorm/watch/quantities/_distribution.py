"""Percentiles and histograms of many samples at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["histograms", "percentiles"]


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
    finite = samples.isfinite()
    ordered = torch.where(finite, samples, torch.nan).sort(1).values
    last = finite.sum(1, keepdim=True) - 1
    at = torch.tensor(percents, dtype=ordered.dtype) / 100 * last.clamp(min=0)
    below = at.floor()
    left, right = ordered.gather(1, below.long()), ordered.gather(1, at.ceil().long())

    return left.lerp(right, at - below)


def histograms(samples: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Counts in equal bins of every row; the end bins have what is beyond them, too.

    Args:
        samples: ``(B, S)``; what is not finite does not count.
        low: lower ends of the first bins, ``(B,)``.
        high: upper ends of the last bins, ``(B,)``.
        bins: of a histogram.

    Returns:
        ``(B, bins)``, int64.

    Example:
        >>> histograms(torch.tensor([[0.0, 0.1, 0.8, 1.0, 7.0]]), torch.zeros(1), torch.ones(1), 2)
        tensor([[2, 3]])
    """
    finite = samples.isfinite()
    scale = (bins / (high - low))[:, None]
    at = ((samples - low[:, None]) * scale).nan_to_num(0.0).clamp(0, bins - 1).long()
    counts = torch.zeros(len(samples), bins, dtype=torch.int64)

    return counts.scatter_add_(1, at, finite.long())
