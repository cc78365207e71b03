"""BN204: weight decay on γ and β."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers

__all__ = ["WeightDecayOnNorm"]


class WeightDecayOnNorm(Rule):
    """The optimizer shrinks the weight and bias of batch norm.

    Checks: parameters of batch norm layers in groups of the optimizer with `weight_decay` above 0.
    One finding, at the first layer. Many sound recipes do it, so it is *info*.

    Why it hurts: behind γ comes a layer that could make up for any scale, so decay of γ is no
    regulariser by size; it silences channels (see BN105) and moves the working point of the
    activation. With large batches and long training leaving it out is worth a fraction of a per
    cent.

    Example: `SGD(model.parameters(), lr=0.1, weight_decay=1e-4)`

    Instead: two groups, with `weight_decay=0` for parameters of batch norm, and biases.

    Is the fix safe: there is none: a schedule that exists already counts the groups.

    Source: He et al. 2019, "Bag of Tricks", section 3.1 (arXiv:1812.01187); Jia et al. 2018
    (arXiv:1807.11205).
    """

    code = "BN204"
    name = "weight-decay-on-norm"
    severity = "info"
    depth = "tree"
    needs = ("optimizer",)

    def check(self, context: Context) -> Iterator[Finding]:
        """All layers together."""
        decays: dict[str, float] = {}
        count = 0
        for path, layer in context.layers.items():
            for parameter in layer.parameters(recurse=False):
                decay = context.groups.get(parameter, {}).get("weight_decay") or 0.0
                if decay > 0:
                    decays[path] = max(float(decay), decays.get(path, 0.0))
                    count += parameter.numel()
        if decays:
            first = next(iter(decays))
            yield self.finding(
                first,
                f"weight_decay={decays[first]:g} on {count} values of γ and β"
                f" {in_layers(context, list(decays))}",
                "Put them into a group with weight_decay=0",
                weight_decay=decays[first],
                parameters=count,
                layers=list(decays),
            )
