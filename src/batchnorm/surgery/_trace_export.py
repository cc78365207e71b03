"""By torch.export: its operators, put together again into the calls of layers."""

from __future__ import annotations

import logging
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils import _pytree

from ._graph import Call, Graph, arguments_of, is_leaf, name_of

if TYPE_CHECKING:  # takes a second to import
    from torch.export import ExportedProgram

__all__ = ["trace_by_export"]


def trace_by_export(model: nn.Module, sample: Any) -> Graph:
    """The program for inputs like the sample.

    Raises:
        Exception: whatever stops ``torch.export``.
    """
    args, kwargs = arguments_of(sample)
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.CRITICAL)  # a failure logs the whole program, and prints it too
    try:
        with redirect_stderr(StringIO()):
            program = torch.export.export(model, args, kwargs, strict=False)
    finally:
        log.setLevel(level)

    return Graph(_calls(model, program), "export")


def _calls(model: nn.Module, program: ExportedProgram) -> list[Call]:
    signature = program.graph_signature
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers()),
    }
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    found: dict[fx.Node, Call] = {}
    calls: list[Call] = []
    inside = ""
    for node in program.graph.nodes:
        key, path = _leaf_of(model, node)
        if key and key == inside:  # one more operator of the call before
            found[node] = calls[-1]
            _extend(calls[-1], node, found)
            continue
        inside = key
        call = _call(node, found)
        if key:
            call = Call("module", path, model.get_submodule(path))
            _extend(call, node, found)
        elif node.name in paths:
            path = paths[node.name]
            call = Call("attribute", path, kwargs={"value": tensors.get(path)})
        found[node] = call
        calls.append(call)

    return calls


def _leaf_of(model: nn.Module, node: fx.Node) -> tuple[str, str]:
    """Key of the call and path of the outermost layer that an operator belongs to."""
    for key, (path, _) in node.meta.get("nn_module_stack", {}).items():
        if path and is_leaf(model.get_submodule(path)):
            return key, path

    return "", ""


def _extend(call: Call, node: fx.Node, found: dict[fx.Node, Call]) -> None:
    """Add to a layer's arguments what an operator reads from outside the layer."""
    own = [source for source in (found[n] for n in node.all_input_nodes) if source is not call]
    call.args += tuple(
        source for source in own if source.kind != "attribute" and source not in call.args
    )


def _call(node: fx.Node, found: dict[fx.Node, Call]) -> Call:
    args, kwargs = _pytree.tree_map(
        lambda leaf: found.get(leaf, leaf) if isinstance(leaf, fx.Node) else leaf,
        (tuple(node.args), dict(node.kwargs)),
        is_leaf=lambda leaf: isinstance(leaf, fx.Node),
    )
    if node.op == "placeholder":
        return Call("input", node.name)
    if node.op == "output":
        return Call("output", "output", args=args)

    name, inplace = name_of(node.target)
    return Call("function", name, None, args, kwargs, inplace)
