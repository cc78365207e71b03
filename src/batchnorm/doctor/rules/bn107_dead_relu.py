"""BN107: relu units behind batch norm that never pass anything."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._units import Units

__all__ = ["DeadRelu"]

_RELUS = (nn.ReLU, nn.ReLU6)


class DeadRelu(Rule):
    """Channels whose batch norm is followed by a ReLU that is never positive.

    Checks: batch norm that a ReLU reads, or with one of its own, on the given batches with batch
    statistics, in 30 examples or more. A channel is dead if no value of it is ever above 0: then
    more than 3/n other examples are unlikely (95 %). *Warning* if that is more than half the
    channels, else *info*: trained networks have a few.

    Why it hurts: x̂ has mean 0 and variance 1, so β is far below −3·|γ|. The channel gives 0, and
    gets no gradient that could bring it back.

    Example: `layer.bias.data.fill_(-10)`

    Instead: a lower learning rate or warm-up, no weight decay on γ alone, or
    `activation="leaky_relu"`; `bn.prune_report(model)` says what the dead ones cost.

    Is the fix safe: there is none; to remove channels changes shapes.

    Source: Lu et al. 2019, "Dying ReLU and Initialization" (arXiv:1903.06733).
    """

    code = "BN107"
    name = "dead-relu"
    severity = "warning"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with channels that are always cut off."""
        assert context.live is not None
        watched = {p: layer for p, layer in context.layers.items() if _feeds_relu(context, layer)}
        seen = {path: Units() for path in watched}

        def visit(path: str, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            seen[path].see(output.detach() > 0)

        if watched:
            context.live.listen("norms", watched, visit)
        for path, units in seen.items():
            if units.dead:
                yield self.finding(
                    path,
                    f"{units.dead} of {units.total} channels are never above 0 before the relu, in"
                    f" {units.examples} examples",
                    "Lower the learning rate, or warm it up",
                    severity="warning" if 2 * units.dead > units.total else "info",
                    dead=units.dead,
                    channels=units.total,
                    examples=units.examples,
                )


def _feeds_relu(context: Context, layer: Any) -> bool:
    own = getattr(layer, "activation", None) in ("relu", "relu6")
    if own or isinstance(layer._modules.get("act"), _RELUS):
        return True
    graph = context.graph
    if graph is None:
        return False
    readers = [graph.reader(call) for call in graph.calls_of(layer)]

    return bool(readers) and all(
        reader is not None
        and (isinstance(reader.module, _RELUS) or reader.target in ("relu", "relu6"))
        for reader in readers
    )
