"""BN213: a contrastive loss can cheat by batch norm."""

import re
from collections.abc import Iterator
from typing import Any

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers, is_synchronised

__all__ = ["ContrastiveLeak"]

_NAMES = re.compile(r"infonce|ntxent|contrast|supcon|simclr|moco|siglip|clip.?loss|npair", re.I)


class ContrastiveLeak(Rule):
    """A loss that compares the examples of a batch, behind layers that mix them.

    Checks: the name of the loss (InfoNCE, NT-Xent, SupCon, contrastive, ...), and batch norm that
    trains without synchronisation. On several processes it is a *warning*, else *info*. One
    finding, at the first layer.

    Why it hurts: every output carries the statistics of its batch, and they tell which examples
    were together. On several processes the positive pair shares a process that most negatives do
    not: the loss falls, and the features are worth nothing.

    Example: MoCo without shuffling, or SimCLR with local statistics.

    Instead: SyncBatchNorm, as SimCLR; shuffle examples between processes, as MoCo; layer norm in
    the head.

    Is the fix safe: there is none; it changes what is trained.

    Source: He et al. 2020, section 3.3 (arXiv:1911.05722); Chen et al. 2020, section 2.2
    (arXiv:2002.05709).
    """

    code = "BN213"
    name = "contrastive-leak"
    severity = "warning"
    depth = "tree"
    needs = ("loss_fn",)

    def check(self, context: Context) -> Iterator[Finding]:
        """All layers that mix the examples, together."""
        loss = _name(context.loss_fn)
        if not _NAMES.search(loss.replace("_", "").replace("-", "")):
            return
        paths = [
            path
            for path, layer in context.layers.items()
            if not is_synchronised(layer) and "stats" not in getattr(layer, "frozen", ())
        ]
        if paths:
            world = context.distributed.world_size
            yield self.finding(
                paths[0],
                f"{loss} compares examples that batch norm mixes {in_layers(context, paths)}"
                + (f", on each of {world} processes apart" if world > 1 else ""),
                "Use SyncBatchNorm, or shuffle between processes",
                severity="warning" if world > 1 else "info",
                processes=world,
                layers=paths,
            )


def _name(loss: Any) -> str:
    own = getattr(loss, "__name__", None)

    return own if isinstance(own, str) else type(loss).__name__
