"""The population of a layer that remembers covariances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .._types import BatchStats
from ..ops import choose_lane
from ._meters import Meter
from ._restore import borrowed

__all__ = ["CovarianceMeter"]


class CovarianceMeter(Meter):
    """As :class:`Meter`, with covariances ``(G, d, d)`` of C = G·d beside the variances."""

    def __init__(self, path: str, layer: Any) -> None:
        super().__init__(path, layer)
        self.by_proposals = True
        self._own = self._all = self._nothing()

    def _nothing(self) -> BatchStats:
        covariance = self.layer.running_covariance.double()
        mean = self.layer.running_mean.double()

        return self._stats(torch.zeros_like(mean), torch.zeros_like(covariance), mean.new_zeros(()))

    def _stats(self, mean: Tensor, covariance: Tensor, count: Tensor) -> BatchStats:
        stats: BatchStats = self.layer._statistics(mean.double(), covariance.double(), count.long())

        return stats

    def drain(self, proposals: list[Any]) -> None:
        """Take what the layer has proposed."""
        for proposal in proposals:
            stats = self._stats(*proposal)
            self._own = self._own.merge(stats.finite())
            # A group that is not finite is left out as a whole.
            mean = torch.where(stats.is_finite, stats.mean, torch.nan)
            self.local.update(BatchStats(stats.count, mean, _variances(stats.var)))
        proposals.clear()

    def pack(self) -> Tensor:
        """What this rank has, as a vector."""
        own, mean = self._own, self._own.mean
        count = own.count.expand_as(mean).double()

        return torch.cat([super().pack(), count, mean, own.var.reshape(-1)])

    def unite(self, parts: Iterable[Tensor]) -> None:
        """Take what all ranks have, in their order."""
        channels, total = self._own.mean.numel(), self._own.var.numel()
        sizes = [-1, channels, channels, total]
        populations, self._all = [], self._nothing()
        for part in parts:
            sizes[0] = part.numel() - 2 * channels - total
            population, count, mean, covariance = part.split(sizes)
            populations.append(population)
            var = covariance.reshape(self._own.var.shape)
            self._all = self._all.merge(self._stats(mean, var, count))
        super().unite(populations)

    @torch.no_grad()
    def write(self) -> None:
        """Put the population into the layer, and what it derives from it."""
        super().write()
        layer, stats = self.layer, self._all
        dtype = layer.running_mean.dtype
        tracked = layer.num_batches_tracked.clone()
        with borrowed([layer], momentum=1.0):
            mean = stats.mean.to(dtype)
            layer._commit(choose_lane(mean), (mean, stats.var.to(dtype), stats.count))
        layer.num_batches_tracked.copy_(tracked)


def _variances(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=1, dim2=2).reshape(-1)
