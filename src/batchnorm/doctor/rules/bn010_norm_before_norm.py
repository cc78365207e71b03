"""BN010: another normalisation right behind batch norm."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from ...surgery._graph import Call
from .._context import Context
from .._finding import Finding
from .._layers import has_activation
from .._rule import Rule
from .._walk import behind, is_shaping

__all__ = ["NormBeforeNorm"]

_OTHERS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _InstanceNorm, nn.LocalResponseNorm)
_NAMES = {"layer_norm", "group_norm", "instance_norm", "rms_norm"}


class NormBeforeNorm(Rule):
    """A layer norm, group norm or instance norm reads nothing but what batch norm gives.

    Checks: a batch norm without an activation whose output only another normalisation reads, with
    only reshaping in between.

    Why it hurts: instance norm takes away everything that batch norm did to a channel, and layer
    and group norm its common scale and shift, after batch norm has tied every example to its
    batch. What is left of batch norm is its cost, its noise, and its trouble with small batches.

    Example: `nn.Sequential(nn.BatchNorm2d(16), nn.GroupNorm(4, 16))`

    Instead: keep one of the two: the other, if batches are small.

    Is the fix safe: there is none; a network that is trained this way needs both.

    Source: Wu & He 2018, section 3 (arXiv:1803.08494): what each of them computes.
    """

    code = "BN010"
    name = "norm-before-norm"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Batch norms that another normalisation reads."""
        graph = context.graph
        assert graph is not None
        for path, layer in context.layers.items():
            if has_activation(layer) or graph.way == "parts":
                continue
            readers = (behind(graph, call, is_shaping) for call in graph.calls_of(layer))
            other = next((r for r in readers if r is not None and _is_norm(r)), None)
            if other is not None:
                what = other.target if other.module is None else type(other.module).__name__
                where = "" if other.module is None else f" {other.target!r}"
                yield self.finding(
                    path,
                    f"{what}{where} normalises its output again",
                    "Keep one of the two",
                    second=other.target,
                    channels=layer.num_features,
                )


def _is_norm(call: Call) -> bool:
    return isinstance(call.module, _OTHERS) or (call.kind == "function" and call.target in _NAMES)
