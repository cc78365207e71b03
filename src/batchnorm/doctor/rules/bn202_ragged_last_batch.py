"""BN202: the last batch is much smaller than the others."""

from collections.abc import Iterator
from typing import Any

from .._batch_sizes import BatchSizes, batch_sizes
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import effective_samples, in_layers

__all__ = ["RaggedLastBatch"]

_VERY_FEW = 8


class RaggedLastBatch(Rule):
    """The last batch of an epoch is so small that it spoils what the others were good for.

    Checks: running averages weigh batches, not examples. Right after the epoch the last batch alone
    brings m²/last of variance into the running mean and all others m·(1−m)²/(2−m)/usual; *info* if
    it is more than they bring together (with momentum 0.1, a last batch below 23 % of the others).
    *Warning* if its own statistics are worth fewer than 8 independent values per channel while
    those of the others are worth 16 or more. One finding, at the first layer.

    Why it hurts: each evaluation happens right after the noisiest batch of the epoch, and the last
    step of each epoch is a step by noise.

    Example: 1003 examples in batches of 100.

    Instead: `drop_last=True`; with shuffling every example still has its turn.

    Is the fix safe: there is none; the loader is yours.

    Source: the variance of an exponential average, m/(2−m); timm's loaders drop the last batch.
    """

    code = "BN202"
    name = "ragged-last-batch"
    severity = "warning"
    depth = "live"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The layers that it spoils."""
        sizes = batch_sizes(context.loader)
        assert context.live is not None
        if sizes is None or sizes.last >= sizes.usual:
            return
        noisy = [path for path, layer in context.layers.items() if _is_loud(layer, sizes)]
        scarce = []
        for path, layer in context.layers.items():
            # The last batch may be among those that were heard: it has a say of its own.
            full = [call for call in context.live.norms.heard[path] if call.shape[0] > sizes.last]
            samples = effective_samples(layer, full)
            rest = sizes.last / sizes.usual
            if samples is not None and samples >= 2 * _VERY_FEW and samples * rest < _VERY_FEW:
                scarce.append(path)
        found = scarce or noisy
        if found:
            yield self.finding(
                found[0],
                f"the last batch has {sizes.last} examples, the others {sizes.usual}; too few"
                f" {in_layers(context, found)}",
                "Use drop_last=True",
                severity="warning" if scarce else "info",
                batch=sizes.usual,
                last=sizes.last,
                layers=found,
            )


def _is_loud(layer: Any, sizes: BatchSizes) -> bool:
    """Whether the last batch brings more variance into the running mean than all others."""
    if not layer.track_running_stats or "stats" in getattr(layer, "frozen", ()):
        return False
    m = layer.momentum
    if m is None:
        return sizes.usual > sizes.last * (sizes.number - 1)
    if not 0 < m < 1:
        return False

    return bool(m * m / sizes.last > m * (1 - m) ** 2 / (2 - m) / sizes.usual)
