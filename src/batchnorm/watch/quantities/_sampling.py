r"""What chance alone does to the statistics of a batch.

The examples of a batch are the independent draws; the positions of one example are not. With
:math:`s_i` the sum of example i's deviations from the mean of all n values,

.. math:: \mathrm{se}^2 = \frac{N}{N - 1} \sum_i s_i^2 \Big/ n^2

is the squared standard error of the mean. Source: Cochran, Sampling Techniques, 1977, section 9A.2.
"""

import torch
from torch import Tensor

from ..._types import BatchStats

__all__ = ["independent", "shift", "shift_noise", "standard_error"]


def standard_error(stats: BatchStats, spread: Tensor) -> Tensor:
    r"""Of each channel's mean, ``(C,)``, in units of x.

    Args:
        stats: of the batch.
        spread: ``(C,)``: :math:`\frac{N}{N - 1} \sum_i s_i^2`.
    """
    return spread.sqrt() / stats.count


def independent(stats: BatchStats, spread: Tensor) -> float:
    r"""Independent values that the mean is worth, :math:`\sigma^2/\mathrm{se}^2`; median channel.

    Example:
        >>> stats = BatchStats(torch.tensor(128), torch.zeros(1), torch.ones(1))
        >>> independent(stats, torch.tensor([1024.0]))
        16.0
    """
    worth = (stats.var * stats.count**2 / spread).clamp(max=float(stats.count.max()))
    worth = worth[worth.isfinite()]

    return float(worth.median()) if worth.numel() else torch.nan


def shift(now: BatchStats, before: BatchStats) -> float:
    r"""How far the distribution of a layer's input has moved, in its standard deviations.

    .. math:: \sqrt{\frac1C \sum_c \frac{(\mu_c - \mu'_c)^2 + (\sigma_c - \sigma'_c)^2}
        {(\sigma_c^2 + \sigma_c'^2)/2}}

    The Wasserstein-2 distance of two Gaussians, channel by channel; constant channels are left out.

    Example:
        >>> a = BatchStats(torch.tensor(9), torch.tensor([0.0]), torch.tensor([1.0]))
        >>> b = BatchStats(torch.tensor(9), torch.tensor([2.0]), torch.tensor([1.0]))
        >>> shift(a, b)
        2.0
    """
    moved = (now.mean - before.mean).square() + (now.var.sqrt() - before.var.sqrt()).square()
    relative = moved / ((now.var + before.var) / 2)
    relative = relative[relative.isfinite()]

    return float(relative.mean().sqrt()) if relative.numel() else torch.nan


def shift_noise(now: float, before: float) -> float:
    r"""The shift between two batches of one Gaussian distribution, in standard deviations.

    The mean of n independent values has variance :math:`\sigma^2/n`, their standard deviation
    :math:`\sigma^2/2n`.

    Args:
        now: independent values of the one batch.
        before: of the other.

    Example:
        >>> shift_noise(3.0, 3.0)
        1.0
    """
    return float((1.5 / now + 1.5 / before) ** 0.5)
