"""What rules ask of running statistics and of what entered a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import SyncBatchNorm
from ..stats._population import Population
from ._context import Context
from ._live import Heard

__all__ = [
    "HARMLESS",
    "effective_samples",
    "in_layers",
    "is_averaged",
    "is_fresh",
    "is_synchronised",
    "pooled",
    "remaining",
    "running",
    "updates",
]

HARMLESS = 0.25
"""In standard deviations of x̂: what statistics of 16 independent values are off by (1/√16). Wu & He
2018 (arXiv:1803.08494, table 2) find batches of 16 within half a point of batches of 32."""

_AVERAGES = {"AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "ModelEMA", "EMAModel"}


def running(layer: Any) -> tuple[Tensor, Tensor] | None:
    """Running mean and variance, ``(C,)`` in float64; None if the layer has others or none."""
    mean, var = getattr(layer, "running_mean", None), getattr(layer, "running_var", None)
    if mean is None or var is None or mean.is_meta or mean.shape != (layer.num_features,):
        return None

    return mean.detach().double(), var.detach().double()


def is_fresh(layer: Any) -> bool:
    """Whether the running statistics are those of a layer that was just made."""
    found = running(layer)

    return found is not None and bool((found[0] == 0).all() and (found[1] == 1).all())


def updates(layer: Any) -> int:
    """How many batches the layer has counted; 0 if it does not count."""
    tracked = getattr(layer, "num_batches_tracked", None)

    return 0 if tracked is None or tracked.is_meta or tracked.numel() != 1 else int(tracked)


def remaining(layer: Any) -> float:
    """The weight that the initial 0 and 1 still have in the running statistics, by the count."""
    count = updates(layer)
    if count == 0:
        return 1.0
    if layer.momentum is None:
        return 0.0

    return float((1 - min(max(layer.momentum, 0.0), 1.0)) ** count)


def is_synchronised(layer: Any) -> bool:
    """Whether a layer shares its statistics between processes."""
    return isinstance(layer, (nn.SyncBatchNorm, SyncBatchNorm))


def is_averaged(context: Context) -> bool:
    """Whether the model is an average of others over training: torch's, or one named so."""
    names = {type(module).__name__ for module in context.modules.values()}

    return bool(names & _AVERAGES)


def pooled(heard: Iterable[Heard]) -> Population | None:
    """All that entered a layer, with the examples as the independent draws; None without any."""
    draws = [one.draws for one in heard if one.draws is not None]
    if not draws:
        return None
    population = Population()
    for one in draws:
        population.merge(one)

    return population


def effective_samples(layer: Any, heard: Sequence[Heard]) -> float | None:
    """Independent values per channel of a call that would give as good a mean as it had.

    The variance of the values over the squared standard error of their mean, whose draws are the
    examples: ``N`` for ``(N, C)``, between ``N`` and ``N·H·W`` for images, whose pixels are alike.
    """
    shares: list[Tensor] = []
    for one in heard:
        if one.draws is None or one.stats is None:
            continue
        draws = one.draws.batches.double().clamp(min=2)
        var = one.draws.result().var
        # Without Bessel's factor, so that N independent values count as N.
        square = one.draws.errors().mean.square() * (draws - 1) / draws
        known = (var > 0) & square.isfinite()
        # Never more than there are.
        shares.append(torch.maximum(square / var, 1 / one.draws.result().count)[known])
    share = float(torch.cat(shares).mean()) if shares else math.nan
    if not share > 0:
        return None

    ghost = getattr(layer, "ghost_batch_size", None)
    size = max(one.shape[0] for one in heard)

    return (min(ghost, size) / size if ghost else 1.0) / share


def in_layers(context: Context, paths: Sequence[str]) -> str:
    """``"in 3 of 5 layers"``."""
    return f"in {len(paths)} of {len(context.layers)} layers"
