"""BN103: running statistics that still remember their initial values."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import pooled, remaining, running, updates

__all__ = ["TooFewUpdates"]

_VALUES = 32


class TooFewUpdates(Rule):
    """Too few batches for the momentum: the initial 0 and 1 are still in the running statistics.

    Checks: after n batches the initial values weigh (1 − momentum)ⁿ. Taking them out,
    var = (running_var − w) / (1 − w), shows how far the running statistics are off. A layer is
    named if in the median channel that is more than the noise that an average with this momentum
    has anyway: √(m/(2−m)) of the noise of a batch of 32 values, √(2/32) of the variance and √(1/32)
    standard deviations. Recalibrated statistics have a small count too, so data decides, if there
    is any: the batches must be twice as near to the corrected statistics as to the running ones.
    *Info* without data, and while the layer trains.

    Why it hurts: evaluation normalises by numbers between the data's and 0 and 1. With 0.001 (often
    a Keras 0.999 rewritten) it takes thousands of batches to forget them.

    Example: `nn.BatchNorm2d(64, momentum=0.001)` after 500 batches.

    Instead: train on, use `momentum=0.1` or None, or `bn.recalibrate(model, loader)`.

    Is the fix safe: there is none; the start can only be taken out if it was 0 and 1.

    Source: Kingma & Ba 2015, section 3 (arXiv:1412.6980), for the weight of the start.
    """

    code = "BN103"
    name = "too-few-updates"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers whose start is louder than their noise."""
        for path, layer in context.layers.items():
            left = remaining(layer)
            if not 0 < left < 1:
                continue
            corrected = _corrected(layer, left)
            if corrected is None:
                continue
            mean, var = _distance(layer, corrected)
            noise = math.sqrt(layer.momentum / (2 - layer.momentum) / _VALUES)
            if mean <= noise and var <= noise * math.sqrt(2):
                continue
            sure = _is_confirmed(context, path, corrected)
            if sure is not False:
                yield self.finding(
                    path,
                    f"after {updates(layer)} batches at momentum {layer.momentum:g} the initial"
                    f" values still weigh {left:.1%}",
                    "Train on, raise the momentum, or recalibrate",
                    severity="warning" if sure and not layer.training else "info",
                    updates=updates(layer),
                    remaining=left,
                    mean_off=mean,
                    var_off=var,
                )


def _corrected(layer: Any, left: float) -> tuple[Tensor, Tensor] | None:
    """Mean and variance without the start; None if they did not start at 0 and 1."""
    found = running(layer)
    if found is None or not all(t.isfinite().all() for t in found):
        return None
    mean, var = found[0] / (1 - left), (found[1] - left) / (1 - left)

    return None if bool((var < 0).any()) else (mean, var.clamp(min=layer.eps))


def _distance(layer: Any, other: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """In the median channel: of the means, in standard deviations; of the variances, relative."""
    found = running(layer)
    assert found is not None
    mean = (found[0] - other[0]).abs() / other[1].sqrt()
    var = (found[1] - other[1]).abs() / other[1]

    return float(torch.median(mean)), float(torch.median(var))


def _is_confirmed(context: Context, path: str, corrected: tuple[Tensor, Tensor]) -> bool | None:
    """Whether the batches are twice as near to the corrected statistics; None without data."""
    population = None if context.live is None else pooled(context.live.norms.heard[path])
    found = running(context.layers[path])
    if population is None or found is None:
        return None
    batch = population.result()
    var = batch.var_unbiased.clamp(min=context.layers[path].eps)

    def square(mean: Tensor, other: Tensor) -> Tensor:
        ratio = other.clamp(min=1e-30) / var
        return ((mean - batch.mean).square() / var + ratio.log().square()).median()

    return bool(square(*corrected) < square(*found) / 4)
