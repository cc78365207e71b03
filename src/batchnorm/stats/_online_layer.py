"""One layer adapts to what it is about to normalise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._types import BatchStats
from ..layers._covariance import CovarianceStats
from ._inputs import measure
from ._layer_memory import Memory, count_row, write_memory
from ._sights import Sight, is_whitened

__all__ = ["Seen", "adapt_to"]

Seen = dict[tuple[int, int | None], BatchStats]
"""Statistics of all batches so far, by layer and row."""


def adapt_to(layer: Any, sight: Sight, source: Memory, share: float, seen: Seen | None) -> None:
    """Write statistics between the source's and this input's into the layer.

    Args:
        layer: whose memory changes in the row of ``sight``.
        sight: what it is about to normalise.
        source: its memory before all adaptation.
        share: of the new statistics, 0 to 1.
        seen: is added to, and taken in place of the input's own, with unbiased variances; None:
            biased ones of this input.
    """
    stats = _stats_of(layer, sight)
    if seen is not None:
        key = id(layer), sight.row
        if key in seen:
            stats = seen[key].merge(stats)
        seen[key] = stats

    old_mean, old_var, known = (part if sight.row is None else part[sight.row] for part in source)
    if not bool(known):
        share = 1.0
    count = stats.count.expand_as(stats.mean)
    new_var = stats.var
    if seen is not None:
        new_var = new_var * _per_row((count / (count - 1).clamp(min=1)).to(new_var), new_var)
    # A mixture takes the variance of one value, which is 0; the batch alone cannot.
    fit = count > (1 if share == 1 else 0)
    mean = torch.where(fit, old_mean + share * (stats.mean - old_mean), old_mean)
    var = torch.where(_per_row(fit, new_var), old_var + share * (new_var - old_var), old_var)
    write_memory(layer, sight.row, mean, var)
    if sight.row is not None and bool(fit.any()):
        count_row(layer, sight.row, source)


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """``(C,)`` for variances; of a group's covariances all have the same: ``(G, 1, 1)``."""
    return values.view(*like.shape[:2], 1)[:, :1] if like.dim() == 3 else values


def _stats_of(layer: Any, sight: Sight) -> BatchStats:
    """Of the real values, float64; count 0 where they are not finite."""
    if not is_whitened(layer):
        stats = measure(sight.input, sight.mask, "OnlineAdapter")
        return BatchStats(stats.count, stats.mean.double(), stats.var.double()).finite()

    values = sight.values()
    groups, size = layer.running_covariance.shape[:2]
    count = torch.full_like(values[:1].sum(0), len(values), dtype=torch.int64)
    mean = values.sum(0) / max(len(values), 1)
    centred = (values - mean).view(-1, groups, size).movedim(0, -1)
    covariance = centred @ centred.mT / max(len(values), 1)

    return CovarianceStats(count, mean, covariance).finite()
