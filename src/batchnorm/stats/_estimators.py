"""Estimators of a population's mean and variance from batches: update, merge, result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from .._errors import explain
from .._types import BatchStats

__all__ = ["Cumulative", "Ema", "Estimator", "Running", "Schedule", "ZeroDebiasedEma"]

Schedule = Callable[[int], float]
"""The momentum (weight of the new) of the k-th batch, k = 1, 2, ..."""


@dataclass(frozen=True)
class Running:
    """Running statistics.

    Args:
        mean: ``(C,)``, in units of x.
        var_unbiased: ``(C,)``, in units of x².
    """

    mean: Tensor
    var_unbiased: Tensor


class Moments(Protocol):
    """What an estimator results in: :class:`Running`, or a :class:`BatchStats`."""

    @property
    def mean(self) -> Tensor:
        """``(C,)``, in units of x."""

    @property
    def var_unbiased(self) -> Tensor:
        """``(C,)``, in units of x²."""


class Estimator(Protocol):
    """Three verbs, and no model inside."""

    def update(self, stats: BatchStats) -> None:
        """Take one batch."""

    def merge(self, other: Self) -> None:
        """Take the batches that another estimator saw, as if they came after."""

    def result(self) -> Moments:
        """The estimate from all batches so far."""


class _Weighted:
    """A weighted sum of batch statistics; every new batch multiplies the older weights."""

    def __init__(self) -> None:
        self._mean = self._var = torch.zeros((), dtype=torch.float64)
        self._kept = 1.0
        self.batches = 0

    def _take(self, stats: BatchStats, momentum: float) -> None:
        self._mean = (1 - momentum) * self._mean + momentum * stats.mean.double()
        self._var = (1 - momentum) * self._var + momentum * stats.var_unbiased.double()
        self._kept *= 1 - momentum
        self.batches += 1

    def _append(self, other: _Weighted) -> None:
        self._mean = other._kept * self._mean + other._mean
        self._var = other._kept * self._var + other._var
        self._kept *= other._kept
        self.batches += other.batches


class Ema(_Weighted):
    r"""Exponential moving average as a layer keeps it, started at mean 0 and variance 1.

    .. math:: r \leftarrow (1 - m)\,r + m\,\mathrm{new}

    After k batches :math:`(1 - m)^k` of the start is still in it: 35 % after 10 at m = 0.1.

    Args:
        momentum: torch's weight of the new, or a schedule of it by batch number.

    Example:
        >>> ema = Ema(0.1)
        >>> ema.update(BatchStats(torch.tensor(2), torch.tensor([4.0]), torch.tensor([0.0])))
        >>> ema.result().mean
        tensor([0.4000], dtype=torch.float64)
    """

    def __init__(self, momentum: float | Schedule) -> None:
        super().__init__()
        self.momentum = momentum

    def update(self, stats: BatchStats) -> None:
        """Take one batch."""
        momentum = self.momentum
        self._take(stats, momentum(self.batches + 1) if callable(momentum) else momentum)

    def merge(self, other: Self) -> None:
        """Take the batches of ``other``, as if they came after with the weights that they had."""
        self._append(other)

    def result(self) -> Running:
        """The average, with what is left of its start; float64."""
        return Running(self._mean, self._var + self._kept)


class ZeroDebiasedEma(Ema):
    r"""Exponential moving average of the batches alone: the start's weight is divided out.

    .. math:: \hat r_k = \frac{\sum_i w_i\,\mathrm{new}_i}{\sum_i w_i} \qquad
        w_i = m_i \prod_{j > i} (1 - m_j)

    With constant momentum the divisor is :math:`1 - (1 - m)^k`. After one batch the estimate is
    that batch.

    Args:
        momentum: torch's weight of the new, or a schedule of it by batch number.

    Source: Kingma & Ba 2015, section 3 (arXiv:1412.6980).

    Example:
        >>> ema = ZeroDebiasedEma(0.25)
        >>> ema.update(BatchStats(torch.tensor(2), torch.tensor([4.0]), torch.tensor([0.0])))
        >>> ema.result().mean
        tensor([4.], dtype=torch.float64)
    """

    def result(self) -> Running:
        """The average; float64.

        Raises:
            RuntimeError: no batch has had a weight.
        """
        weight = 1 - self._kept
        if weight == 0:
            raise RuntimeError(
                explain("ZeroDebiasedEma", "it needs a batch", "none", "Call update() first")
            )

        return Running(self._mean / weight, self._var / weight)


class Cumulative:
    r"""The average over batches, each with the same weight: ``momentum=None`` in a layer.

    It is also what ``torch.optim.swa_utils.update_bn`` computes. The variance between the batches'
    means is not in it, and a small batch weighs as much as a large one: for the variance of the
    data use :class:`Population`.

    Example:
        >>> average = Cumulative()
        >>> for x in (torch.tensor([[1.0], [3.0]]), torch.tensor([[11.0], [13.0]])):
        ...     average.update(batchnorm.functional.batch_norm_stats(x))
        >>> average.result().var_unbiased  # of all four values it is 34.7
        tensor([2.], dtype=torch.float64)
    """

    def __init__(self) -> None:
        self._mean = self._var = torch.zeros((), dtype=torch.float64)
        self.batches = 0

    def update(self, stats: BatchStats) -> None:
        """Take one batch."""
        self.batches += 1
        self._mean = self._mean + (stats.mean.double() - self._mean) / self.batches
        self._var = self._var + (stats.var_unbiased.double() - self._var) / self.batches

    def merge(self, other: Self) -> None:
        """Take the batches of ``other``; the order does not matter."""
        self.batches += other.batches
        share = other.batches / max(self.batches, 1)
        self._mean = self._mean + share * (other._mean - self._mean)
        self._var = self._var + share * (other._var - self._var)

    def result(self) -> Running:
        """The average; float64.

        Raises:
            RuntimeError: there was no batch.
        """
        if self.batches == 0:
            raise RuntimeError(
                explain("Cumulative", "it needs a batch", "none", "Call update() first")
            )

        return Running(self._mean, self._var)
