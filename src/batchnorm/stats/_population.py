"""The mean and variance of everything that all batches hold, and how sure they are."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple, Self

import torch
from torch import Tensor

from .._errors import explain
from .._types import BatchStats

__all__ = ["Interval", "Population"]

_ROWS = 11
_TOGETHER = 32


class Interval(NamedTuple):
    """Standard errors, or half widths of confidence intervals, ``(C,)`` each.

    Args:
        mean: of the mean, in units of x.
        var: of the variance, in units of x².
    """

    mean: Tensor
    var: Tensor


class Population:
    r"""Mean and variance of all values of all batches, as if they had been one batch.

    The variance within batches and between their means, weighted by count; in float64. A channel
    of a batch that is not finite is left out and counted.

    The intervals take the batches, not the values, as the independent draws: pixels of one image
    and examples that came together are not independent.

    .. math:: \mathrm{se}_\mu^2 = \tfrac{B}{B-1} \sum_b \tfrac{n_b^2}{n^2} (\mu_b - \mu)^2 \qquad
        \mathrm{se}_{\sigma^2}^2 = \tfrac{B}{B-1} \sum_b \tfrac{n_b^2}{n^2}
        \bigl(\sigma_b^2 + (\mu_b - \mu)^2 - \sigma^2\bigr)^2

    Source: Chan, Golub & LeVeque 1979 for the merge; Cochran 1977, chapter 6 (ratio estimators of
        clusters), for the errors.

    Example:
        >>> population = Population()
        >>> for x in (torch.tensor([[1.0], [3.0]]), torch.tensor([[11.0], [13.0]])):
        ...     population.update(batchnorm.functional.batch_norm_stats(x))
        >>> population.result().mean, population.result().var
        (tensor([7.], dtype=torch.float64), tensor([26.], dtype=torch.float64))
    """

    def __init__(self) -> None:
        empty = torch.zeros(0, dtype=torch.float64)
        self._pooled = BatchStats(empty.long(), empty, empty)
        # Sums over batches of n² times 1, a, q, a², a·q, q²; a and q: a batch's first and second
        # moment about the pooled mean.
        self._sums = torch.zeros(6, 0, dtype=torch.float64)
        self._batches = self._lost = empty.long()
        # Merging many at once costs as many operations as merging one.
        self._waiting: list[BatchStats] = []

    @property
    def batches(self) -> Tensor:
        """Int64 ``(C,)``: batches that entered each channel."""
        self._gather()
        return self._batches

    @property
    def lost(self) -> Tensor:
        """Int64 ``(C,)``: batches that were not finite there."""
        self._gather()
        return self._lost

    def update(self, stats: BatchStats) -> None:
        """Take one batch."""
        count = stats.count.expand(stats.mean.shape).clone()
        mean, var = (t.detach().to(torch.float64, copy=True) for t in (stats.mean, stats.var))
        self._waiting.append(BatchStats(count, mean, var))
        if len(self._waiting) == _TOGETHER:
            self._gather()

    def _gather(self) -> None:
        """Merge what is waiting."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            columns = ((s.count, s.mean, s.var) for s in waiting)
            self.merge(
                Population.of_draws(BatchStats(*map(torch.stack, zip(*columns, strict=True))))
            )

    @classmethod
    def of_draws(cls, draws: BatchStats) -> Self:
        """Many batches at once: statistics ``(B, C)``, one row per batch."""
        clean = draws.detach().finite()
        count = clean.count.expand_as(clean.mean)
        mean, var = clean.mean.double(), clean.var.double()
        total = count.sum(0)
        share = count.double() / total.clamp(min=1)
        # About the first mean, which is close: about 0 large means would cost digits.
        pooled = mean[0] + (share * (mean - mean[0])).sum(0)
        a = torch.where(count > 0, mean - pooled, 0.0)
        q = torch.where(count > 0, var + a * a, 0.0)
        weight = count.double().square()

        one = cls()
        one._pooled = BatchStats(total, pooled, (share * q).sum(0))
        terms = (torch.ones_like(a), a, q, a * a, a * q, q * q)
        one._sums = torch.stack([(weight * term).sum(0) for term in terms])
        one._batches = (count > 0).long().sum(0)
        one._lost = ((draws.count > 0) & ~draws.is_finite).long().sum(0)

        return one

    def merge(self, other: Self) -> None:
        """Take what another estimator saw; the order does not matter up to rounding."""
        self._gather()
        other._gather()
        if other._pooled.mean.numel() == 0:
            return
        if self._pooled.mean.numel() == 0:
            self._pooled, self._sums = other._pooled, other._sums
            self._batches, self._lost = other._batches, other._lost
            return

        pooled = self._pooled.merge(other._pooled)
        self._sums = sum(_about(one._sums, one._pooled.mean - pooled.mean) for one in (self, other))  # type: ignore[assignment]
        self._pooled = pooled
        self._batches = self._batches + other._batches
        self._lost = self._lost + other._lost

    def result(self) -> BatchStats:
        """Count ``(C,)``, mean and biased variance, float64; ``.var_unbiased`` is torch's.

        Raises:
            RuntimeError: there was no batch.
        """
        self._gather()
        if self._pooled.mean.numel() == 0:
            raise RuntimeError(
                explain("Population", "it needs a batch", "none", "Call update() first")
            )

        return self._pooled

    def errors(self) -> Interval:
        """Standard errors of the mean and the variance; inf with fewer than two batches."""
        self._gather()
        _, _, sum_q, sum_aa, _, sum_qq = self._sums
        var, size = self._pooled.var, self._pooled.count.clamp(min=1).double()
        spread = sum_qq - 2 * var * sum_q + var * var * self._sums[0]
        batches = self._batches.double()
        scale = (batches / (batches - 1).clamp(min=1)).sqrt() / size
        errors = (scale * part.clamp(min=0).sqrt() for part in (sum_aa, spread))

        return Interval(*(error.where(batches > 1, torch.inf) for error in errors))

    def interval(self, confidence: float = 0.95) -> Interval:
        """Half widths that cover the truth with this probability, for many random batches."""
        quantile = _student(confidence, self.batches.double() - 1)

        return Interval(*(quantile * error for error in self.errors()))

    def pack(self, like: Tensor) -> Tensor:
        """Everything in one float64 tensor ``(11, numel)``, zeros when empty; shape of ``like``."""
        self._gather()
        if self._pooled.mean.numel() == 0:
            return torch.zeros(_ROWS, like.numel(), dtype=torch.float64, device=like.device)

        pooled = self._pooled
        rows = (pooled.count, pooled.mean, pooled.var, *self._sums, self._batches, self._lost)

        return torch.stack([row.double().reshape(-1) for row in rows])

    @classmethod
    def unpack(cls, packed: Tensor, like: Tensor) -> Self:
        """The inverse of :meth:`pack`."""
        count, mean, var, *sums, batches, lost = packed.reshape(_ROWS, *like.shape)
        one = cls()
        one._pooled = BatchStats(count.long(), mean, var)
        one._sums, one._batches, one._lost = torch.stack(sums), batches.long(), lost.long()

        return one


def _about(sums: Tensor, d: Tensor) -> Tensor:
    """The sums about a mean that lies ``d`` lower: a → a + d, q → q + 2·d·a + d²."""
    s, a, q, aa, aq, qq = sums
    return torch.stack(
        (
            s,
            a + d * s,
            q + 2 * d * a + d**2 * s,
            aa + 2 * d * a + d**2 * s,
            aq + 2 * d * aa + d * q + 3 * d**2 * a + d**3 * s,
            qq + 4 * d * aq + 2 * d**2 * q + 4 * d**2 * aa + 4 * d**3 * a + d**4 * s,
        )
    )


def _student(confidence: float, degrees: Tensor) -> Tensor:
    """Two-sided quantile of Student's t (Cornish-Fisher; within 1 % from 4 degrees on)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    v = degrees.clamp(min=1)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384

    return z + first / v + second / v**2 + third / v**3
