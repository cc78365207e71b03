"""BN207: whose running statistics are kept."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers, is_synchronised

__all__ = ["BuffersOfProcesses"]


class BuffersOfProcesses(Rule):
    """Under data parallelism the running statistics are one process's own.

    Checks: layers that do not synchronise, under DistributedDataParallel or DataParallel with more
    than one process or device. With `broadcast_buffers=False` it is a *warning*, else *info*. One
    finding, at the first layer.

    Why it hurts: with `broadcast_buffers=True` every forward overwrites all statistics by those of
    process 0, so evaluation knows its share of the data alone, and two forwards before one backward
    fail, because a buffer that backward needs has changed. With False every process evaluates
    another network, and the checkpoint is that of the one that wrote it. DataParallel keeps the
    statistics of the first device.

    Example: `DistributedDataParallel(model, broadcast_buffers=False)`

    Instead: SyncBatchNorm; or `bn.recalibrate` on all processes before evaluation, which merges
    them.

    Is the fix safe: there is none; the wrapper is yours.

    Source: pytorch/pytorch#22095, #73332; Wu & Johnson 2021, section 3 (arXiv:2105.07576).
    """

    code = "BN207"
    name = "buffers-of-processes"
    severity = "warning"
    depth = "tree"
    needs = ("distributed",)

    def check(self, context: Context) -> Iterator[Finding]:
        """All layers together."""
        spread = context.distributed
        if spread.wrapper is None or spread.world_size < 2:
            return
        paths = [
            path
            for path, layer in context.layers.items()
            if layer.track_running_stats and not is_synchronised(layer)
            if "stats" not in getattr(layer, "frozen", ())
        ]
        if not paths:
            return
        apart = spread.wrapper == "DistributedDataParallel" and not spread.broadcast_buffers
        owner = "each process keeps its own" if apart else "the first one's are kept"
        yield self.finding(
            paths[0],
            f"of {spread.world_size} processes' running statistics {owner}"
            f" {in_layers(context, paths)}",
            "Use SyncBatchNorm, or recalibrate before evaluating",
            severity="warning" if apart else "info",
            processes=spread.world_size,
            broadcast_buffers=spread.broadcast_buffers,
            layers=paths,
        )
