"""By torch.fx: the whole model, or the parts of it that can be traced."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.utils import _pytree

from ._graph import Call, Graph, is_leaf, name_of, paths_of

__all__ = ["trace_by_fx", "trace_by_parts"]


class _Tracer(fx.Tracer):
    """Stops at layers, and remembers the innermost module that could not be traced."""

    def __init__(self, opaque: set[nn.Module]) -> None:
        super().__init__()
        self.opaque = opaque
        self.failed: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.opaque or is_leaf(m)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = m
            raise


def trace_by_fx(model: nn.Module) -> Graph:
    """The whole model, optional arguments at their defaults.

    Raises:
        Exception: whatever stops ``torch.fx``.
    """
    return Graph(_calls(model, _symbolic(model, _Tracer(set())), paths_of(model)), "fx")


def trace_by_parts(model: nn.Module) -> Graph:
    """Every part that can be traced, by itself; what lies between parts stays unknown."""
    paths = paths_of(model)
    opaque: set[nn.Module] = set()
    calls: list[Call] = []
    notes: list[str] = []
    waiting = [model]
    seen: set[nn.Module] = set()
    while waiting:
        part = waiting.pop(0)
        if part in seen or is_leaf(part):
            continue
        seen.add(part)
        graph, error = _around_opaque(part, opaque)
        if graph is None:
            notes.append(f"inside {paths[part] or 'the model'!r} torch.fx fails: {error}")
            waiting += part.children()
        else:
            calls += _calls(part, graph, paths)
            waiting += [module for module in part.modules() if module in opaque]

    return Graph(calls, "parts", tuple(notes))


def _around_opaque(part: nn.Module, opaque: set[nn.Module]) -> tuple[fx.Graph | None, str]:
    """Trace a part, passing over modules inside it that cannot be; add those to ``opaque``."""
    while True:
        tracer = _Tracer(opaque - {part})
        try:
            return _symbolic(part, tracer), ""
        except Exception as error:
            if tracer.failed is None or tracer.failed in opaque:
                return None, _first_line(error)
            opaque.add(tracer.failed)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _symbolic(model: nn.Module, tracer: _Tracer) -> fx.Graph:
    if "forward" in model.__dict__:  # which torch.fx does not see
        raise ValueError("its forward was replaced on the instance")
    signature = inspect.signature(model.forward).parameters.values()
    defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    constant = {
        name: value
        for name, value in defaults.items()
        if value is None or isinstance(value, bool | int | float | str)
    }
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature):
        constant = {}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a default is not asserted
        return tracer.trace(model, constant or None)


def _calls(part: nn.Module, graph: fx.Graph, paths: dict[nn.Module, str]) -> list[Call]:
    calls: dict[fx.Node, Call] = {}
    for node in graph.nodes:
        args, kwargs = _pytree.tree_map_only(fx.Node, calls.get, (node.args, node.kwargs))
        calls[node] = _call(part, node, tuple(args), dict(kwargs), paths)

    return list(calls.values())


def _call(
    part: nn.Module,
    node: fx.Node,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    paths: dict[nn.Module, str],
) -> Call:
    target = str(node.target)
    if node.op == "placeholder":
        return Call("input", target)
    if node.op == "output":
        return Call("output", "output", args=args)
    if node.op == "get_attr":
        value = _attribute(part, target)
        home = paths[part]
        return Call("attribute", f"{home}.{target}".lstrip("."), kwargs={"value": value})
    if node.op == "call_module":
        module = part.get_submodule(target)
        return Call("module", paths[module], module, args, kwargs)

    name, inplace = name_of(node.target)
    return Call("function", name, None, args, kwargs, inplace or kwargs.get("inplace") is True)


def _attribute(part: nn.Module, target: str) -> Any:
    value: Any = part
    for name in target.split("."):
        value = getattr(value, name)

    return value
