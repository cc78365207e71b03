"""The forward of one module written anew, with additions and activations done by batch norm."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .._types import ActivationName
from ._activations import activation_of
from ._swap import carry_over
from ._trace_run import attributes_kept, unchanged

__all__ = ["Rewritten", "rewritten"]

Found = dict[nn.Module, tuple[ActivationName, float, bool]]

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_IN_PLACE = {operator.iadd, "add_"}
_FUNCTIONS: dict[Any, ActivationName] = {
    **dict.fromkeys([F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"], "relu"),
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
    **dict.fromkeys([F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"], "sigmoid"),
    **dict.fromkeys([F.tanh, torch.tanh, "tanh", "tanh_"], "tanh"),
}


class _Proxy(fx.Proxy):
    """``x += y`` stays in place: torch.fx makes it ``x = x + y``, which other names of x miss."""

    def _in_place(self, function: Any, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)


class _Shallow(fx.Tracer):
    """Looks at the calls of one forward, and of the ``nn.Sequential`` in it."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is not nn.Sequential or bool(m._forward_hooks or m._forward_pre_hooks)


@dataclass
class Rewritten:
    """A module with another forward.

    Args:
        module: holds what its owner holds.
        plain: the same with nothing fused: what torch.fx saw.
        found: for each layer the activation, its slope, and whether an addition went in.
    """

    module: fx.GraphModule
    plain: fx.GraphModule
    found: Found


def rewritten(owner: nn.Module, layers: set[nn.Module]) -> Rewritten | str:
    """A module that holds what ``owner`` holds, with a fused forward; or why there is none.

    Args:
        owner: whose forward calls the layers; is not changed.
        layers: that may take an activation and a residual. They stay children by their names.
    """
    if "forward" in owner.__dict__:
        return "its forward was replaced on the instance"
    graphs = []
    for training in (True, False):
        graph = _traced(owner, training)
        if isinstance(graph, str):
            return graph
        graphs.append(graph)
    if str(graphs[0]) != str(graphs[1]):
        return "its forward differs between training and inference"

    _drop_identities(owner, graphs[0])
    found = _fuse_all(owner, graphs[0], layers)
    if not found:
        return "nothing follows that could be fused"

    carry_over(owner, module := _module(owner, graphs[0]))
    return Rewritten(module, _module(owner, graphs[1]), found)


def _traced(owner: nn.Module, training: bool) -> fx.Graph | str:
    """What the forward does, with no trace left; or why torch.fx would not keep all of it."""
    with attributes_kept(owner), unchanged(owner):
        owner.training = training
        before = dict(vars(owner)), [buffer._version for buffer in owner.buffers()]
        try:
            graph = _Shallow().trace(owner)
        except Exception as error:
            return f"torch.fx fails: {str(error).strip().splitlines()[0]}"
        now, versions = vars(owner), [buffer._version for buffer in owner.buffers()]
        set_here = [name for name, value in now.items() if value is not before[0].get(name, now)]

    if set_here or versions != before[1]:
        return f"its forward sets {', '.join(set_here) or 'a buffer'}, which torch.fx would lose"

    return graph


def _module(owner: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    graph.lint()
    module = fx.GraphModule(owner, graph, class_name=f"Fused{type(owner).__name__}")
    # The very dicts: keys, order and unused children stay, and later changes reach both.
    for name in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
        module.__dict__[name] = owner.__dict__[name]

    return module


def _fuse_all(owner: nn.Module, graph: fx.Graph, layers: set[nn.Module]) -> Found:
    called = [_called(owner, node) for node in graph.nodes]
    found: Found = {}
    for node in list(graph.nodes):
        layer = _called(owner, node)
        if layer in layers and called.count(layer) == 1 and len(node.args) == 1 and not node.kwargs:
            fused = _fuse(owner, graph, node)
            if fused is not None:
                found[layer] = fused

    return found


def _drop_identities(owner: nn.Module, graph: fx.Graph) -> None:
    """Calls of ``nn.Identity`` stand between what can be fused."""
    for node in list(graph.nodes):
        module = _called(owner, node)
        plain = type(module) is nn.Identity and activation_of(module) is not None
        if plain and len(node.args) == 1 and isinstance(node.args[0], fx.Node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _called(owner: nn.Module, node: fx.Node) -> nn.Module | None:
    return owner.get_submodule(str(node.target)) if node.op == "call_module" else None


def _fuse(
    owner: nn.Module, graph: fx.Graph, node: fx.Node
) -> tuple[ActivationName, float, bool] | None:
    """Let one call do what follows it; None if nothing does."""
    addition, residual = _addition(node)
    last = addition or node
    user = _only_user(last)
    act = None if user is None else _activation(owner, user)
    if addition is None and act is None:
        return None

    end = user if act is not None and user is not None else last
    kwargs: dict[str, Any] = {} if residual is None else {"residual": residual}
    with graph.inserting_before(end):
        call = graph.call_module(str(node.target), node.args, kwargs)
    end.replace_all_uses_with(call)
    for gone in (end, addition, node):
        if gone is not None and gone.graph is graph and not gone.users and not gone._erased:
            graph.erase_node(gone)

    name, slope = act or ("identity", 0.0)
    return name, slope, addition is not None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _addition(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """The addition that follows, and what is added; an overwritten addend is not ours to leave."""
    user = _only_user(node)
    if user is None or user.target not in _ADDITIONS or len(user.args) != 2 or user.kwargs:
        return None, None
    first, second = user.args
    other = second if first is node else first
    if not isinstance(other, fx.Node) or (user.target in _IN_PLACE and first is not node):
        return None, None

    return user, other


def _activation(owner: nn.Module, node: fx.Node) -> tuple[ActivationName, float] | None:
    module = _called(owner, node)
    if module is not None:
        known = activation_of(module) if len(node.args) == 1 and not node.kwargs else None
        return None if known is None or known[0] == "identity" else known
    if node.op not in ("call_function", "call_method") or len(node.args) != 1:
        return None
    if set(node.kwargs) - {"inplace"}:
        return None
    name = _FUNCTIONS.get(node.target)

    return None if name is None else (name, 0.0)
