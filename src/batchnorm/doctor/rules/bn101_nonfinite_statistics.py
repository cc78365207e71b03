"""BN101: running statistics that no data can have."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .._context import Context
from .._finding import Finding
from .._rule import Rule

__all__ = ["NonfiniteStatistics"]


class NonfiniteStatistics(Rule):
    """A running statistic is NaN or infinite, or a variance is negative.

    Checks: every buffer of a batch norm layer whose name begins with `running_`; of variances also
    the sign.

    Why it hurts: one overflow in one batch (half precision, a bad example) is enough. Averages
    never forget NaN: training goes on as if nothing had happened, because it uses the batch, and
    every evaluation gives NaN. A negative variance gives NaN too, or a network far too loud.

    Example: `layer.running_mean[3] = float("nan")`

    Instead: find the batch that did it; then `bn.recalibrate(model, loader)`. Layers of this
    package keep such batches out and count them in `num_nonfinite`.

    Is the fix safe: there is none; what the value should have been only data can say.

    Source: pytorch/pytorch#88474, #115500 (both open): overflow reaches running statistics.
    """

    code = "BN101"
    name = "nonfinite-statistics"
    severity = "error"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with impossible statistics."""
        layer: Any
        for path, layer in context.layers.items():
            wrong: dict[str, Any] = {
                name: count
                for name, buffer in layer._buffers.items()
                if name.startswith("running_") and buffer is not None and not buffer.is_meta
                if (count := _impossible(name, buffer))
            }
            if wrong:
                parts = " and ".join(f"{name} ({count})" for name, count in wrong.items())
                yield self.finding(
                    path,
                    f"values that no data can have in {parts}",
                    "Find the batch that did it, then recalibrate",
                    **wrong,
                )


def _impossible(name: str, buffer: Tensor) -> int:
    wrong = ~buffer.isfinite()
    if name == "running_var":
        wrong |= buffer < 0

    return int(wrong.sum())
