"""BN003: batch norm right behind batch norm."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._layers import has_activation
from .._rule import Rule
from .._walk import behind, norm_at

__all__ = ["NormTwice"]


class NormTwice(Rule):
    """Batch norm reads nothing but what another batch norm gives.

    Checks: a batch norm without an activation whose output only another batch norm reads.

    Why it hurts: the second takes away the scale and shift of the first, so two of the four
    parameters per channel do nothing, and every pass over memory is paid twice. Small batches are
    normalised by two noisy estimates instead of one.

    Example: `nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.BatchNorm2d(16))`

    Instead: keep one. Where a block begins with batch norm, the block before should not end with
    it.

    Is the fix safe: there is none; eps is added twice, so no single layer computes the same.

    Source: Ioffe & Szegedy 2015, section 3 (arXiv:1502.03167): the output does not change when the
    input is scaled and shifted.
    """

    code = "BN003"
    name = "norm-twice"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Second ones, with the first that feeds them."""
        graph = context.graph
        assert graph is not None
        seen: set[str] = set()
        for path, layer in context.layers.items():
            if has_activation(layer) or graph.way == "parts":
                continue
            for call in graph.calls_of(layer):
                second = norm_at(context, behind(graph, call))
                if second is None or second in seen or len(call.inputs) > 1:
                    continue
                seen.add(second)
                yield self.finding(
                    second,
                    f"batch norm of what {path!r} has normalised already",
                    "Keep one of the two",
                    first=path,
                    channels=layer.num_features,
                )
