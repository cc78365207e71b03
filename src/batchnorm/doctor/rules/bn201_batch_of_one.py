"""BN201: a batch with one example."""

from collections.abc import Iterator
from math import prod
from typing import Any

from .._batch_sizes import BatchSizes, batch_sizes
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import is_synchronised

__all__ = ["BatchOfOne"]


class BatchOfOne(Rule):
    """A batch of the loader gives a channel one value, or is a single example.

    Checks: the size of batches, of the last one and of the last ghost batch against the positions
    that a layer has. One value per channel is an *error*, because training stops there
    (`on_single` other than "error", frozen layers, and synchronised ones on several processes
    excepted). Batches of one example with more positions are a *warning*. One finding, at the first
    layer.

    Why it hurts: "Expected more than 1 value per channel when training", at the end of an epoch or
    of a night. With more positions it is instance normalization in training and batch normalization
    in evaluation.

    Example: 1001 examples, `DataLoader(..., batch_size=100)`, and a layer behind global pooling.

    Instead: `drop_last=True`; `on_single="running"` for layers of this package.

    Is the fix safe: there is none; the loader is yours.

    Source: fastai/fastai#1352; pytorch/pytorch#4534; the same sentence in dozens of projects.
    """

    code = "BN201"
    name = "batch-of-one"
    severity = "error"
    depth = "live"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The first layer that cannot be trained, or else the first with instances."""
        sizes = batch_sizes(context.loader)
        assert context.live is not None
        if sizes is None:
            return
        heard = {path: calls[0] for path, calls in context.live.norms.heard.items() if calls}
        stopped, single = [], []
        for path, call in heard.items():
            layer = context.layers[path]
            if _is_spared(context, layer) or len(call.shape) < 2 or call.stats is None:
                continue
            if _has_one(layer, sizes) and prod(call.shape[2:]) == 1:
                stopped.append(path)
            elif sizes.usual == 1:
                single.append(path)
        if stopped:
            which = "every" if sizes.usual == 1 else "the last"
            yield self.finding(
                stopped[0],
                f"{which} batch gives each channel one value, and training stops there",
                "Use drop_last=True, or on_single",
                batch=sizes.usual,
                last=sizes.last,
                layers=stopped,
            )
        elif single:
            yield self.finding(
                single[0],
                "batches of one example: each is normalised by itself",
                "Enlarge the batch, or use group norm",
                severity="warning",
                batch=1,
                last=1,
                layers=single,
            )


def _is_spared(context: Context, layer: Any) -> bool:
    together = is_synchronised(layer) and context.distributed.world_size > 1
    held = "stats" in getattr(layer, "frozen", ()) or "Renorm" in type(layer).__name__

    return together or held or getattr(layer, "on_single", "error") != "error"


def _has_one(layer: Any, sizes: BatchSizes) -> bool:
    """Whether some group that is normalised together has one example."""
    ghost = getattr(layer, "ghost_batch_size", None)
    rests = {size % ghost if ghost and ghost < size else size for size in (sizes.usual, sizes.last)}

    return 1 in rests or ghost == 1
