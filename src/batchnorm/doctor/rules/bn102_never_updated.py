"""BN102: running statistics as they were made."""

from collections.abc import Iterator
from typing import Any

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import is_fresh, updates

__all__ = ["NeverUpdated"]


class NeverUpdated(Rule):
    """A layer still has the mean 0 and the variance 1 that it was made with.

    Checks: running means all 0, running variances all 1, no batch counted. In eval mode it is a
    *warning* if the network was trained: other layers have counted batches, or the layer's own β
    differs from channel to channel. A layer that is training is *info* then: a new head on a
    trained network is in order. An untrained network in eval mode is *info*, in training nothing.

    Why it hurts: inference normalises by 0 and 1, which is not to normalise at all. It happens
    when statistics were not saved or not loaded (`strict=False`, parameters alone), when the layer
    stood in eval mode or had `momentum=0` all through training, or in an averaged copy.

    Example: `model.load_state_dict(dict(trained.named_parameters()), strict=False)`

    Instead: load the buffers too, or `bn.recalibrate(model, loader)`.

    Is the fix safe: there is none without data.

    Source: Ioffe & Szegedy 2015, algorithm 2 (arXiv:1502.03167).
    """

    code = "BN102"
    name = "never-updated"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with initial statistics where they matter."""
        trained = any(updates(layer) > 0 for layer in context.layers.values())
        for path, layer in context.layers.items():
            if updates(layer) > 0 or not is_fresh(layer):
                continue
            used = trained or _is_trained(layer)
            if used or not layer.training:
                yield self.finding(
                    path,
                    "running statistics are as they were made, mean 0 and variance 1",
                    "Load the buffers too, or recalibrate",
                    severity="warning" if used and not layer.training else "info",
                    updates=0,
                    channels=layer.num_features,
                )


def _is_trained(layer: Any) -> bool:
    """By β alone: initialisations draw γ at random (DCGAN's do), but hardly ever β."""
    bias = layer.bias

    return bias is not None and not bias.is_meta and bool((bias != bias[:1]).any())
