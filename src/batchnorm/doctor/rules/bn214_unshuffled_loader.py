"""BN214: the same examples always meet in a batch."""

from collections.abc import Iterator

from torch.utils.data import DataLoader, SequentialSampler

from .._context import Context
from .._finding import Finding
from .._rule import Rule

__all__ = ["UnshuffledLoader"]


class UnshuffledLoader(Rule):
    """The loader gives its examples in the same order in every epoch, and the model trains.

    Checks: a `DataLoader` with a `SequentialSampler`, an optimizer, and batch norm in training
    mode.

    Why it hurts: batch norm regularises because each time an example meets others. In a fixed order
    it always has the same neighbours, and in a sorted one they are alike (see BN108). Shuffling
    well was worth about a per cent in the first paper.

    Example: `DataLoader(data, batch_size=32)` for training.

    Instead: `shuffle=True`.

    Is the fix safe: there is none; the loader is yours.

    Source: Ioffe & Szegedy 2015, section 4.2.1 (arXiv:1502.03167).
    """

    code = "BN214"
    name = "unshuffled-loader"
    severity = "info"
    depth = "tree"
    needs = ("loader", "optimizer")

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding, at the first layer that trains."""
        loader = context.loader
        if not isinstance(loader, DataLoader):
            return
        sampler = getattr(loader.batch_sampler, "sampler", None)
        first = next((path for path, x in context.layers.items() if x.training), None)
        if type(sampler) is SequentialSampler and first is not None and len(sampler) > 1:
            yield self.finding(
                first,
                f"{len(sampler)} examples come in the same order in every epoch",
                "Use shuffle=True for training",
                examples=len(sampler),
            )
