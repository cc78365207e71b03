"""BN110: eps, not the variance, decides the scale."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import is_fresh, pooled, running

__all__ = ["VarianceBelowEps"]


class VarianceBelowEps(Rule):
    """The variance of channels is smaller than `eps`.

    Checks: the running variance of layers that have one of their own, else that of the batches, if
    there are any. Where it is below `eps`, x̂ has less than half the variance it should have.
    *Warning* if that is more than half of the channels that vary at all, else *info*.

    Why it hurts: the channel is not normalised but multiplied by 1/√eps, so that scale and learning
    rate matter again as without batch norm. The cause is an input in tiny units (metres for
    nanometres, probabilities), tiny initial weights, or an eps of another framework: Keras has
    1e-3.

    Example: `nn.BatchNorm1d(8)` on values about 1e-4.

    Instead: standardise the input, or lower `eps` in float32.

    Is the fix safe: there is none; a trained network relies on its eps.

    Source: Ioffe & Szegedy 2015, algorithm 1 (arXiv:1502.03167).
    """

    code = "BN110"
    name = "variance-below-eps"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with channels that eps rules."""
        for path, layer in context.layers.items():
            var = _variance(context, path, layer)
            if var is None:
                continue
            varies = var > 0
            small = int((varies & (var < layer.eps)).sum())
            if small:
                yield self.finding(
                    path,
                    f"{small} of {layer.num_features} channels have a variance below"
                    f" eps={layer.eps:g}; the median channel has {float(var[varies].median()):.2g}",
                    "Standardise the input, or lower eps",
                    severity="warning" if 2 * small > int(varies.sum()) else "info",
                    small=small,
                    channels=layer.num_features,
                    median=float(var[varies].median()),
                )


def _variance(context: Context, path: str, layer: Any) -> Tensor | None:
    found = running(layer)
    if found is not None and not is_fresh(layer):
        return found[1]
    if context.live is None:
        return None
    population = pooled(context.live.norms.heard[path])

    return None if population is None else population.result().var
