"""Rows of a recording from what was heard, with what was there before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._types import BatchStats
from ..layers import SyncBatchNorm
from . import quantities
from ._recorder import Heard
from ._schema import BINS, LAYER, PERCENTILES, Row
from ._sites import activation_of
from ._values import Values

__all__ = ["Table", "finite"]

# Where histograms begin and end.
_ENDS = (0.5, 99.5)
_LEVELS = [f"p{p:02d}" for p in PERCENTILES]
_EMPTY = dict.fromkeys(LAYER)
_SYNCED = (nn.SyncBatchNorm, SyncBatchNorm)


@dataclass
class _Before:
    """What a place was like in its last row."""

    step: int
    stats: BatchStats | None
    independent: float
    tracked: int | None
    changed: int


class Table:
    """Makes rows, and remembers of each place what the next row is compared with.

    Args:
        ranks: that took part in what is heard.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._before: dict[str, _Before] = {}

    def rows(
        self,
        heard: Sequence[Heard],
        changes: Mapping[str, Mapping[str, float]],
        step: int,
        seconds: float,
    ) -> list[Row]:
        """One row per place, in the order of the forward; then those of which only weights are.

        Args:
            heard: on the CPU.
            changes: numbers of parameters by path of their module.
            step: that was recorded.
            seconds: since the start.
        """
        shapes = iter(_distributions([s for h in heard for s in (h.input, h.output) if s]))
        rows = []
        for one in heard:
            row: dict[str, Any] = {
                "kind": one.site.kind,
                "path": one.path,
                "training": one.training,
                "channels": _channels(one),
            }
            for prefix, side in (("in", one.input), ("out", one.output)):
                if side is not None:
                    row |= {f"{prefix}_{name}": value for name, value in next(shapes).items()}
            row |= self._numbers(one, step)
            row |= changes.get(one.path, {})
            rows.append(row)
        rows += [
            {"kind": "weights", "path": path} | dict(numbers)
            for path, numbers in changes.items()
            if all(path != one.path for one in heard)
        ]

        place = {"type": "layer", "step": step, "seconds": round(seconds, 3)}

        return [
            _EMPTY | place | {"order": order} | {name: finite(row[name]) for name in row}
            for order, row in enumerate(rows)
        ]

    def _numbers(self, one: Heard, step: int) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        before = self._before.get(one.path)
        now = _Before(step, None, torch.nan, None, step)
        if one.input is not None:
            stats, spread = one.input.stats, one.input.spread
            now.stats = stats
            parts = max(one.calls, 1) * (1 if isinstance(one.site.module, _SYNCED) else self._ranks)
            found["samples"] = float(stats.count.max()) / parts
            if spread is not None:
                worth = quantities.independent(stats, spread)
                now.independent = worth
                found["independent"] = worth / parts
            if before is not None and before.stats is not None:
                found["shift"] = quantities.shift(stats, before.stats)
                found["shift_noise"] = quantities.shift_noise(now.independent, before.independent)
            if one.input.rows is not None:
                found["condition"], found["rank"] = quantities.condition(one.input.rows)
        if one.output is not None:
            found["dead"] = quantities.dead(one.output.stats)
            activation = activation_of(one.site.module)
            found["saturated"] = quantities.saturated(one.output.sample, activation)
        if one.site.kind == "batchnorm":
            found |= _memory(one) | _updates(one, before, now) | _affine(one.site.module)
        self._before[one.path] = now

        return found


def _channels(one: Heard) -> int | None:
    side = one.input or one.output

    return None if side is None else side.stats.mean.numel()


def _distributions(sides: Sequence[Values]) -> Iterable[dict[str, Any]]:
    """Of every side: moments, percentiles and histogram."""
    # What leaves a batch norm and enters a ReLU is there twice.
    places = {id(side): side for side in sides}
    if not places:
        return []
    samples = torch.stack([side.sample for side in places.values()])
    levels = quantities.percentiles(samples, (*PERCENTILES, *_ENDS))
    low, high = levels[:, -2], levels[:, -1]
    constant = low == high
    low, high = torch.where(constant, low - 0.5, low), torch.where(constant, high + 0.5, high)
    counts = quantities.histograms(samples, low, high, BINS).tolist()
    found = {}
    table = zip(places.items(), levels.tolist(), low.tolist(), high.tolist(), counts, strict=True)
    for (key, side), row, start, end, own in table:
        found[key] = _moments(side) | dict(zip(_LEVELS, row, strict=False))
        found[key] |= {"low": start, "high": end, "hist": own}

    return [found[id(side)] for side in sides]


def _moments(side: Values) -> dict[str, Any]:
    mean, std = quantities.overall(side.stats)

    return {"mean": mean, "std": std, "nonfinite": quantities.nonfinite(side.stats)}


def _memory(one: Heard) -> dict[str, float | None]:
    stats = None if one.input is None else one.input.stats
    if one.memory is None or stats is None or one.memory[0].shape != stats.mean.shape:
        return {}

    mean, var = (tensor.double().cpu() for tensor in one.memory)
    spread = None if one.input is None else one.input.spread
    module: Any = one.site.module
    values = quantities.distance(stats, spread, mean, var, float(module.eps))

    return dict(zip(("distance_mean", "distance_std", "distance_errors"), values, strict=True))


def _updates(one: Heard, before: _Before | None, now: _Before) -> dict[str, float | None]:
    module: Any = one.site.module
    count: Tensor | None = module.num_batches_tracked
    if count is None or one.tracked is None or one.tracked.numel() != 1:
        return {}

    now.tracked, first = int(count), int(one.tracked)
    now.changed = now.step if now.tracked != first or before is None else before.changed
    found: dict[str, float | None] = {}
    if one.passes:
        found["updates_per_call"] = (now.tracked - first) / one.passes
    if before is not None and before.tracked is not None:
        found["updates"] = (now.tracked - before.tracked) / max(now.step - before.step, 1)
        if now.tracked != before.tracked:
            now.changed = now.step
    found["stale"] = float(now.step - now.changed)

    return found


def _affine(module: Any) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in ("weight", "bias"):
        value = getattr(module, name, None)
        if isinstance(value, Tensor) and value.numel() and not hasattr(value, "full_tensor"):
            value = value.detach().double()
            found[f"{name}_mean"] = float(value.mean())
            found[f"{name}_std"] = float(value.std(correction=0))
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.numel() and not hasattr(weight, "full_tensor"):
        found["weight_small"] = quantities.small(weight)

    return found


def finite(value: Any) -> Any:
    """The value, with seven digits; None for a number that is not finite."""
    if type(value) is not float:
        return value

    return float(f"{value:.7g}") if math.isfinite(value) else None
