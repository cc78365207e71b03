"""BN001: a bias that batch norm takes away again."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.utils import _pytree

from ...surgery import Change, SurgeryReport
from ...surgery._graph import Call
from ...surgery._swap import Surgery
from .._context import Context
from .._finding import Finding
from .._operate import operate
from .._rule import Rule

__all__ = ["RedundantBias"]


class RedundantBias(Rule):
    """A convolution or linear layer has a bias, and batch norm subtracts the mean right behind it.

    Checks: a convolution or linear layer with a bias whose output only batch norm reads, at every
    call.

    Why it hurts: in training the mean of the batch takes every constant away, so the bias changes
    no output and its gradient is zero but for rounding. It costs its gradient (a sum over the whole
    output), the optimizer's state, and, with a large value in half precision, digits.

    Example: `nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))`

    Instead: `nn.Conv2d(3, 16, 3, bias=False)`; batch norm has a bias of its own.

    Is the fix safe: yes. The bias is dropped and the running mean is lowered by it, so that both
    modes compute the same. Checkpoints from before have a bias more: load them first, then fix.

    Source: Ioffe & Szegedy 2015, section 3.2 (arXiv:1502.03167).
    """

    code = "BN001"
    name = "redundant-bias"
    severity = "warning"
    depth = "trace"
    fixable = True

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with a bias that only batch norm reads."""
        layer: Any
        for path, layer in context.modules.items():
            norms = _norms_behind(context, layer)
            if norms:
                cure = _why_no_fix(context, layer, norms)
                yield self.finding(
                    path,
                    f"a bias of {len(layer.bias)} values that batch norm takes away again",
                    "Use bias=False",
                    fixable=not cure,
                    parameters=len(layer.bias),
                    norms=[context.paths[norm] for norm in norms],
                )

    def fix(self, context: Context, finding: Finding) -> SurgeryReport:
        """Drop the bias and lower the running mean by it."""
        layer: Any = context.modules[finding.path]
        norms = _norms_behind(context, layer)
        bias: Tensor = layer.bias.detach()

        def plan(surgery: Surgery) -> None:
            for norm in norms:
                if norm.running_mean is not None:
                    surgery.write(norm.running_mean, norm.running_mean - bias.to(norm.running_mean))
            surgery.set_parameter(layer, "bias", None)

        change = Change(finding.path, "changed", "bias=True", "bias=False", finding.code)

        return operate(context, change, plan)


def _norms_behind(context: Context, layer: Any) -> list[Any]:
    """The batch norm layers that read a layer's output, if nobody else does; each once."""
    graph = context.graph
    if graph is None or not isinstance(layer, (_ConvNd, nn.Linear)):
        return []
    if layer.bias is None or graph.reads_parameters_of(layer):
        return []
    norms: list[Any] = []
    for call in graph.calls_of(layer):
        reader = graph.reader(call)
        # Not as the residual, which is added behind the normalisation.
        if reader is None or graph.source(reader) is not call or not _is_once(reader, call):
            return []
        norms.append(reader.module)
    if not all(_is_removing(context, layer, norm) for norm in norms):
        return []

    return list(dict.fromkeys(norms))


def _is_once(reader: Call, call: Call) -> bool:
    leaves = _pytree.tree_leaves((reader.args, reader.kwargs))

    return sum(leaf is call for leaf in leaves) < 2


def _is_removing(context: Context, layer: Any, norm: Any) -> bool:
    """Whether a module is batch norm that is to normalise the layer's channels by the batch."""
    known = norm is not None and norm in context.paths and norm in context.layers.values()

    return known and norm.num_features == len(layer.bias) and "stats" not in _frozen(norm)


def _frozen(norm: Any) -> tuple[str, ...]:
    return tuple(getattr(norm, "frozen", ()))


def _why_no_fix(context: Context, layer: Any, norms: list[Any]) -> str:
    """Why the bias cannot simply go; empty if it can."""
    graph = context.graph
    assert graph is not None
    if parametrize.is_parametrized(layer) or not isinstance(layer._parameters.get("bias"), Tensor):
        return "its bias is computed"
    for norm in norms:
        mean = norm.running_mean
        if mean is not None and mean.shape != layer.bias.shape:
            return "the running mean has another shape"
        sources = [graph.source(call) for call in graph.calls_of(norm)]
        if any(source is None or source.module is not layer for source in sources):
            return "the batch norm has other inputs too"
    shared = [m for m in context.model.modules() if m._parameters.get("bias") is layer.bias]
    if len(shared) > 1:
        return "the bias is shared"

    return ""
