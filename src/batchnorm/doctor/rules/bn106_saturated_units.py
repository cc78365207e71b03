"""BN106: sigmoid and tanh units that are always at their end."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._units import Units

__all__ = ["SaturatedUnits"]

_LEAST = 0.01


class SaturatedUnits(Rule):
    """Sigmoid or tanh units whose gradient is always nearly zero.

    Checks: `nn.Sigmoid`, `nn.Tanh` and layers with such an activation, on the given batches with
    batch statistics, in 30 examples or more. A unit is saturated if its derivative is below 1 % of
    its maximum in every example at every position: then more than 3/n other examples are unlikely
    (95 %). *Warning* if it is more than half the units, else *info*. What the model returns is left
    out: a prediction may be sure.

    Why it hurts: no gradient passes, so the unit and what is below it do not learn. It is what
    batch norm was made against.

    Example: `nn.Sequential(nn.Linear(64, 64), nn.Sigmoid())` on inputs in the hundreds.

    Instead: batch norm right before the activation (`bn.insert`), standardised inputs, smaller
    initial weights.

    Is the fix safe: there is none; a network with inserted layers has to be trained again.

    Source: Ioffe & Szegedy 2015, section 1 and figure 1 (arXiv:1502.03167).
    """

    code = "BN106"
    name = "saturated-units"
    severity = "warning"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """Activations with units that are stuck."""
        assert context.live is not None
        watched = {
            path: module
            for path, module in context.modules.items()
            if _kind(module) and not _is_output(context, module)
        }
        seen = {path: Units() for path in watched}

        def visit(path: str, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            seen[path].see(_steepness(_kind(module), output.detach().float()) >= _LEAST)

        if watched:
            context.live.listen("norms", watched, visit)
        for path, units in seen.items():
            if units.dead:
                kind = _kind(watched[path])
                yield self.finding(
                    path,
                    f"{units.dead} of {units.total} {kind} units are saturated in all"
                    f" {units.examples} examples",
                    "Put batch norm before the activation, or standardise the input",
                    severity="warning" if 2 * units.dead > units.total else "info",
                    saturated=units.dead,
                    units=units.total,
                    examples=units.examples,
                )


def _kind(module: Any) -> str:
    if isinstance(module, nn.Sigmoid):
        return "sigmoid"
    if isinstance(module, nn.Tanh):
        return "tanh"
    own = getattr(module, "activation", None)

    return own if isinstance(own, str) and own in ("sigmoid", "tanh") else ""


def _steepness(kind: str, y: Tensor) -> Tensor:
    """The derivative by its maximum."""
    return 4 * y * (1 - y) if kind == "sigmoid" else 1 - y * y


def _is_output(context: Context, module: nn.Module) -> bool:
    """Whether the model returns what a module gives; also if that cannot be known."""
    graph = context.graph
    if graph is None:
        return True
    calls = graph.calls_of(module)
    readers = (reader for call in calls for reader in graph.consumers(call))

    return not calls or any(reader.kind == "output" for reader in readers)
