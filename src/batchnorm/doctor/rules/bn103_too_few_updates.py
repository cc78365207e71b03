"""BN103: running statistics that still remember their initial values."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import remaining, running, updates

__all__ = ["TooFewUpdates"]

_VALUES = 32


class TooFewUpdates(Rule):
    """Too few batches for the momentum: the initial 0 and 1 are still in the running statistics.

    Checks: after n batches the initial values weigh (1 − momentum)ⁿ. Taking them out,
    var = (running_var − w) / (1 − w), shows how far the running statistics are off. A layer is
    named if in the median channel that is more than the noise that an average with this momentum
    has anyway: √(m/(2−m)) of the noise of a batch of 32 values, √(2/32) of the variance and √(1/32)
    standard deviations. *Info* while the layer trains.

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
            errors = _errors(layer, left)
            noise = math.sqrt(layer.momentum / (2 - layer.momentum))
            mean, var = (error / noise for error in errors)
            if mean > math.sqrt(1 / _VALUES) or var > math.sqrt(2 / _VALUES):
                yield self.finding(
                    path,
                    f"after {updates(layer)} batches at momentum {layer.momentum:g} the initial"
                    f" values still weigh {left:.1%}",
                    "Train on, raise the momentum, or recalibrate",
                    severity="info" if layer.training else "warning",
                    updates=updates(layer),
                    remaining=left,
                    mean_off=errors[0],
                    var_off=errors[1],
                )


def _errors(layer: Any, left: float) -> tuple[float, float]:
    """In the median channel: the mean's, in standard deviations, and the variance's, relative."""
    found = running(layer)
    if found is None or not all(t.isfinite().all() for t in found):
        return 0.0, 0.0
    mean, var = found
    true_mean, true_var = mean / (1 - left), (var - left) / (1 - left)
    # Then they did not begin at 0 and 1: they were loaded, and the count was not.
    if bool((true_var < 0).any()):
        return 0.0, 0.0
    true_var = true_var.clamp(min=layer.eps)
    off = ((mean - true_mean).abs() / true_var.sqrt(), (var - true_var).abs() / true_var)

    return float(torch.median(off[0])), float(torch.median(off[1]))
