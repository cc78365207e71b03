"""BN111: batch statistics of too few values."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import effective_samples, in_layers, is_synchronised

__all__ = ["TooFewSamples", "scarce_layers"]

_FEW = 16
_VERY_FEW = 8


class TooFewSamples(Rule):
    """A batch gives a channel fewer than 16 independent values.

    Checks: variance of what enters a layer over the squared standard error of its mean, whose draws
    are the examples: pixels of one image are alike and count for less, masked positions not at all,
    a ghost batch counts alone, and synchronised processes together. Below 8 it is a *warning*,
    below 16 *info*. One finding, at the layer with the fewest. Batch Renormalization is left out:
    it is made for that.

    Why it hurts: of n values the variance is off by √(2/n): a third at 16, half at 8. The noise
    grows with the depth of the network, and evaluation knows nothing of it.

    Example: batches of 4 in a network of linear layers.

    Instead: a larger batch; `bn.accumulate` for the running statistics; `SyncBatchNorm`;
    `BatchRenorm`; or group norm.

    Is the fix safe: there is none; all of them change the training.

    Source: Wu & He 2018, table 2 (arXiv:1803.08494): ResNet-50's error by batch is 23.6 at 32, 23.7
    at 16, 24.8 at 8, 27.3 at 4, 34.7 at 2.
    """

    code = "BN111"
    name = "too-few-samples"
    severity = "warning"
    depth = "live"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The layer with the fewest, unless synchronisation would do."""
        world = context.distributed.world_size
        found = {
            path: samples * world
            for path, samples in scarce_layers(context, _FEW / world).items()
            if world == 1 or is_synchronised(context.layers[path])
        }
        if found:
            worst = min(found, key=lambda path: found[path])
            yield self.finding(
                worst,
                f"a batch is worth {found[worst]:.1f} independent values per channel; so few"
                f" {in_layers(context, list(found))}",
                "Enlarge the batch, or use BatchRenorm or group norm",
                severity="warning" if found[worst] < _VERY_FEW else "info",
                samples=found[worst],
                layers=list(found),
            )


def scarce_layers(context: Context, few: float) -> dict[str, float]:
    """Path → effective values per channel of one process, of layers with fewer than ``few``."""
    assert context.live is not None
    found = {}
    for path, heard in context.live.norms.heard.items():
        layer = context.layers[path]
        if "Renorm" in type(layer).__name__ or "stats" in getattr(layer, "frozen", ()):
            continue
        samples = effective_samples(layer, heard)
        if samples is not None and samples < few:
            found[path] = samples

    return found
