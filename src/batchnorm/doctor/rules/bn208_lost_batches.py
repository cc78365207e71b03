"""BN208: batches that were not finite."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import updates

__all__ = ["LostBatches"]


class LostBatches(Rule):
    """A layer had to keep batches out of its statistics, because they were NaN or infinite.

    Checks: `num_nonfinite` of layers of this package. With torch's layers the same batches end in
    the statistics (BN101).

    Why it hurts: the statistics are safe, the step was not: loss and gradients of that batch were
    not finite either. Under automatic mixed precision the scaler skips such a step, elsewhere
    nothing does. The usual cause is float16, whose largest number is 65 504, or a bad example.

    Example: an image divided by its standard deviation of 0.

    Instead: bfloat16; smaller activations (see BN215); clean data; then
    `layer.num_nonfinite.zero_()`.

    Is the fix safe: there is none; it is a record of what happened.

    Source: pytorch/pytorch#88474, #90342; Micikevicius et al. 2018 (arXiv:1710.03740).
    """

    code = "BN208"
    name = "lost-batches"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers that lost some."""
        for path, layer in context.layers.items():
            lost = getattr(layer, "num_nonfinite", None)
            if lost is None or lost.is_meta or not bool(lost.any()):
                continue
            channels = int(lost.count_nonzero())
            yield self.finding(
                path,
                f"batches were not finite in {channels} of {lost.numel()} channels, up to"
                f" {int(lost.max())} times, and were kept out of the statistics",
                "Find what overflows: float16, a bad example, a learning rate too high",
                lost=int(lost.max()),
                channels=channels,
                updates=updates(layer),
            )
