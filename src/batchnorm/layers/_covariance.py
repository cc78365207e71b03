"""Batch statistics with covariances in the variances' place."""

from __future__ import annotations

import torch
from torch import Tensor

from .._types import BatchStats

__all__ = ["CovarianceStats"]


class CovarianceStats(BatchStats):
    """Count, mean ``(C,)`` and, as ``var``, the biased covariances ``(G, d, d)`` of C = G·d."""

    def merge(self, other: BatchStats) -> CovarianceStats:
        r"""Statistics of both batches together.

        .. math:: \Sigma = \tfrac{n_a \Sigma_a + n_b \Sigma_b}{n}
            + \delta \delta^T \tfrac{n_a n_b}{n^2}
        """
        count = self.count + other.count
        dtype = self.mean.dtype
        share = other.count.to(dtype) / count.clamp(min=1).to(dtype)
        delta = other.mean - self.mean
        mean = self.mean + delta * share

        apart = self._rows(delta)
        weight = self._rows((share * (1 - share)).expand_as(mean))
        part = self._rows(share.expand_as(mean))
        covariance = self.var + (other.var - self.var) * part
        covariance = covariance + apart * apart.mT * weight

        # Select, so that a group with nothing in it is neutral whatever its values are.
        left, right = ((stats.count == 0).expand_as(mean) for stats in (other, self))
        mean = torch.where(left, self.mean, torch.where(right, other.mean, mean))
        covariance = torch.where(self._rows(right), other.var, covariance)
        covariance = torch.where(self._rows(left), self.var, covariance)

        return CovarianceStats(count, mean, covariance)

    @property
    def is_finite(self) -> Tensor:
        """Bool ``(C,)``: everything in the channel's group is finite."""
        means = self._rows(self.mean).isfinite().all(-1).all(-1)
        groups = means & self.var.isfinite().all(-1).all(-1)

        return groups[:, None].expand(self.var.shape[:2]).reshape(-1)

    def finite(self) -> CovarianceStats:
        """The same with count 0 (and mean and covariance 0) in every group that is not finite."""
        ok = self.is_finite
        zero = self.mean.new_zeros(())

        return CovarianceStats(
            torch.where(ok, self.count, 0),
            torch.where(ok, self.mean, zero),
            torch.where(self._rows(ok), self.var, zero),
        )

    def _rows(self, values: Tensor) -> Tensor:
        """``(C,)`` as columns ``(G, d, 1)``."""
        return values.view(*self.var.shape[:2], 1)
