"""BN019: a batch norm that the forward does not call."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule

__all__ = ["NeverCalled"]


class NeverCalled(Rule):
    """The model has a batch norm that its forward passes by.

    Checks: layers that no call reaches in the model's present mode, and whose tensors nothing
    reads. *Info*: branches for training only, and parts that are kept for later, are no fault.

    Why it hurts: a layer that was made and forgotten in `forward` leaves its convolution without
    bias and without norm. Its parameters never get a gradient, on which DistributedDataParallel
    stops, and its statistics stay at 0 and 1 in every checkpoint.

    Example: `self.bn2` is made in `__init__`, and `forward` calls `self.bn1` twice.

    Instead: call it, or remove it.

    Is the fix safe: there is none; only the author knows where it belongs.

    Source: torch.nn.parallel.DistributedDataParallel, `find_unused_parameters`.
    """

    code = "BN019"
    name = "never-called"
    severity = "info"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers that are left out."""
        graph = context.graph
        assert graph is not None
        if graph.way == "parts":
            return
        called = set(graph.modules())
        for path, layer in context.layers.items():
            inside = any(module in called for module in context.above(path))
            if not inside and not graph.reads_parameters_of(layer):
                yield self.finding(
                    path,
                    "no call reaches it",
                    "Call it, or remove it",
                    channels=layer.num_features,
                )
