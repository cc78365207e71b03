"""BN105: channels that carry nothing."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import remaining, running, updates

__all__ = ["DeadChannels"]

_HALF = 2.0**-11
_SINGLE = 2.0**-24
_FORGOTTEN = 1e-4


class DeadChannels(Rule):
    """Channels whose γ is 0, or whose input never varies.

    Checks: in a layer that has counted batches, |γ| below 2⁻¹¹ (a rounding in half precision) of
    the layer's largest; a running variance no larger than what is left of its initial 1 and of the
    rounding of the mean. *Warning* if that is more than half the channels, else *info*: trained
    networks have some, and weight decay makes more.

    Why it hurts: the channel is a constant, and everything that computes it is wasted. Where γ is
    exactly 0 and β is negative before a ReLU, nothing can bring it back.

    Example: `layer.weight[:40] = 0` of 64 channels.

    Instead: less weight decay on γ, a lower learning rate; `bn.prune_report(model)` says what could
    be removed.

    Is the fix safe: there is none here; pruning changes shapes.

    Source: Liu et al. 2017, "Network Slimming" (arXiv:1708.06519), for γ as the sign of life.
    """

    code = "BN105"
    name = "dead-channels"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with channels that are constants."""
        for path, layer in context.layers.items():
            if updates(layer) == 0:
                continue
            silent, constant = _silent(layer), _constant(layer)
            dead = int((silent | constant).sum())
            if dead:
                yield self.finding(
                    path,
                    f"{dead} of {layer.num_features} channels are constant: {int(silent.sum())} by"
                    f" γ ≈ 0, {int(constant.sum())} because their input never varies",
                    "Lower weight decay or learning rate, or prune them",
                    severity="warning" if 2 * dead > layer.num_features else "info",
                    dead=dead,
                    silent=int(silent.sum()),
                    constant=int(constant.sum()),
                    channels=layer.num_features,
                )


def _silent(layer: Any) -> Tensor:
    weight = layer.weight
    if weight is None or weight.shape != (layer.num_features,):
        return torch.zeros(layer.num_features, dtype=torch.bool)
    size: Tensor = weight.detach().abs().cpu()

    return size <= _HALF * size.max()


def _constant(layer: Any) -> Tensor:
    found, left = running(layer), remaining(layer)
    if found is None or left > _FORGOTTEN:
        return torch.zeros(layer.num_features, dtype=torch.bool)
    mean, var = (tensor.cpu() for tensor in found)

    return var <= 2 * left + (8 * _SINGLE * mean).square()
