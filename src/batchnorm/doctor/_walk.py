"""Steps from call to call that several rules take."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..surgery._graph import Call, Graph
from ._context import Context

__all__ = ["before", "behind", "is_dropout", "is_pointwise", "is_shaping", "norm_at", "upstream"]

Skip = Callable[[Call], bool]

_SHAPING = {
    *("flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous"),
    *("permute", "transpose", "movedim", "swapaxes", "t", "mT", "T", "_unsafe_view"),
}
_POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.Softsign, nn.LogSigmoid, nn.Threshold),
)
_POINTWISE_NAMES = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus", "softsign"),
    *("logsigmoid", "log_sigmoid"),
}


def is_shaping(call: Call) -> bool:
    """Whether values only move."""
    return isinstance(call.module, (nn.Flatten, nn.Unflatten)) or (
        call.kind == "function" and call.target in _SHAPING
    )


def is_dropout(call: Call) -> bool:
    """Whether it is dropout of any kind, on or off."""
    return isinstance(call.module, _DropoutNd) or (
        call.kind == "function" and "dropout" in call.target
    )


def is_pointwise(call: Call) -> bool:
    """Whether it is an activation, of every value by itself."""
    return isinstance(call.module, _POINTWISE) or (
        call.kind == "function" and call.target in _POINTWISE_NAMES
    )


def _never(call: Call) -> bool:
    return False


def behind(graph: Graph, call: Call, skip: Skip = _never) -> Call | None:
    """Who alone reads a call's values as the first argument, seen through what passes them on."""
    reader = graph.reader(call)
    while reader is not None and skip(reader):
        call, reader = reader, graph.reader(reader)
    if reader is None or reader.kind == "output":
        return reader

    return reader if before(reader) is call else None


def before(call: Call, skip: Skip = _never) -> Call | None:
    """Who gives the first argument, seen through what passes it on; others may read it too."""
    source = call.first
    while source is not None and (source.is_passing or skip(source)):
        source = source.first

    return source


def norm_at(context: Context, call: Call | None) -> str | None:
    """Path of the batch norm that is called, if it is one."""
    if call is None or call.module is None:
        return None
    path = context.paths.get(call.module)

    return path if path in context.layers else None


def upstream(context: Context, path: str) -> list[Tensor]:
    """Parameters that a layer's input depends on: by the graph, or else those beside the layer.

    Those of batch norms count too, the layer's own do not.
    """
    layer, graph = context.modules[path], context.graph
    calls = [] if graph is None else graph.calls_of(layer)
    if not calls or graph is None or graph.way == "parts":
        return _beside(context, path)

    seen = {source for call in calls for source in call.inputs}
    waiting = list(seen)
    found: dict[int, Tensor] = {}
    while waiting:
        call = waiting.pop()
        value = call.kwargs.get("value")
        own = [] if call.module in (None, layer) else list(call.module.parameters())
        for tensor in [*own, value] if isinstance(value, nn.Parameter) else own:
            found[id(tensor)] = tensor
        waiting += [source for source in call.inputs if source not in seen]
        seen.update(call.inputs)

    return list(found.values())


def _beside(context: Context, path: str) -> list[Tensor]:
    """Parameters of the innermost module around the layer that has others than the layer's."""
    layer = context.modules[path]
    own = {id(parameter) for parameter in layer.parameters()}
    for module in reversed(list(context.above(path))):
        others = [p for p in module.parameters() if id(p) not in own]
        if others:
            return list(others)

    return []
