"""BN006: an activation keeps batch norm out of the convolution."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ...surgery._graph import Call, Graph
from .._context import Context
from .._finding import Finding
from .._layers import has_activation
from .._rule import Rule
from .._walk import before, behind, is_dropout, is_pointwise

__all__ = ["ActivationBeforeNorm"]


class ActivationBeforeNorm(Rule):
    """A convolution, an activation, and then batch norm, which can be folded into nothing.

    Checks: a convolution or linear layer, then activations only, then batch norm; and behind it no
    linear layer, or convolution without padding, that could take it in. *Info*: the order is a
    choice, and networks of both orders are trained well.

    Why it hurts: at inference batch norm costs nothing where it follows a convolution, for `fold`
    takes it into the weight. Behind an activation it stays, and reads and writes its whole input.

    Example: `nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.BatchNorm2d(16))`

    Instead: `Conv2d, BatchNorm2d, ReLU`, with `bias=False`.

    Is the fix safe: there is none; a network that is trained this way needs the order.

    Source: Ioffe & Szegedy 2015, section 3.2 (arXiv:1502.03167): before the nonlinearity; Jacob et
    al. 2018, section 3.2 (arXiv:1712.05877): folding.
    """

    code = "BN006"
    name = "activation-before-norm"
    severity = "info"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Batch norms behind activations of convolutions."""
        graph = context.graph
        assert graph is not None
        for path, layer in context.layers.items():
            calls = graph.calls_of(layer)
            if len(calls) != 1:
                continue
            first = before(calls[0])
            if first is None or not is_pointwise(first):
                continue
            source = before(calls[0], is_pointwise)
            if source is None or not isinstance(source.module, (_ConvNd, nn.Linear)):
                continue
            if has_activation(layer) or not _goes_behind(graph, calls[0]):
                yield self.finding(
                    path,
                    f"an activation stands between it and {source.target!r}: it cannot be folded",
                    "Put the activation behind it",
                    layer=source.target,
                    channels=layer.num_features,
                )


def _goes_behind(graph: Graph, call: Call) -> bool:
    """Whether what reads it could take it in."""
    reader = behind(graph, call, is_dropout)
    module: Any = None if reader is None else reader.module
    if isinstance(module, nn.Linear):
        return True

    return isinstance(module, _ConvNd) and not any(
        pad if isinstance(pad, int) else pad == "s" for pad in module.padding
    )
