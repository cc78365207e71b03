"""BN203: every process normalises by its own few examples."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers, is_synchronised
from .bn111_too_few_samples import scarce_layers

__all__ = ["SmallBatchPerProcess"]

_FEW = 16
_VERY_FEW = 8


class SmallBatchPerProcess(Rule):
    """Several processes train, and the batch of each is too small for statistics of its own.

    Checks: as BN111, values per channel of one process's batch, in layers that do not synchronise.
    The loader must give what one process gets. Below 8 independent values it is a *warning*, below
    16 *info*.

    Why it hurts: 8 processes with 2 images each train like batch norm with 2 images, not 16; more
    processes do not help.

    Example: object detection with two images per process under DistributedDataParallel.

    Instead: `bn.convert(model, to="SyncBatchNorm")`, or torch's `convert_sync_batchnorm`; frozen
    statistics for a pretrained backbone.

    Is the fix safe: there is none here, because it changes training and costs communication.

    Source: Peng et al. 2018, "MegDet" (arXiv:1711.07240); Wu & He 2018, table 2 (arXiv:1803.08494).
    """

    code = "BN203"
    name = "small-batch-per-process"
    severity = "warning"
    depth = "live"
    needs = ("loader", "distributed")

    def check(self, context: Context) -> Iterator[Finding]:
        """The layer with the fewest values."""
        world = context.distributed.world_size
        scarce = scarce_layers(context, _FEW) if world > 1 else {}
        found = {p: n for p, n in scarce.items() if not is_synchronised(context.layers[p])}
        if found:
            worst = min(found, key=lambda path: found[path])
            yield self.finding(
                worst,
                f"each of {world} processes has {found[worst]:.1f} independent values per channel,"
                f" and does not ask the others; so {in_layers(context, list(found))}",
                "Use SyncBatchNorm",
                severity="warning" if found[worst] < _VERY_FEW else "info",
                samples=found[worst],
                processes=world,
                layers=list(found),
            )
