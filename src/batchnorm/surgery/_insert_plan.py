"""Which layers get a norm, where, and why the others get none."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ._activations import activation_of
from ._graph import Call, Graph
from ._normalised import Normalised

__all__ = ["LAYERS", "Site", "channels_of", "find_sites", "first_layer"]

LAYERS: tuple[type[nn.Module], ...] = (_ConvNd, nn.Linear, nn.RNNBase)

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
_NORM_FUNCTIONS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
_ACTIVATIONS = {
    *("relu", "relu6", "leaky_relu", "silu", "gelu", "hardswish", "elu", "sigmoid", "tanh"),
    *("hardtanh", "softplus", "mish", "selu", "celu", "prelu", "rrelu", "logsigmoid"),
}
_MIXES = {"add", "cat", "concat"}


@dataclass(frozen=True)
class Site:
    """A place for a norm.

    Args:
        layer: whose output is normalised.
        behind: the module that the norm goes behind: the layer, or its activation.
        reason: why there.
    """

    layer: nn.Module
    behind: nn.Module
    reason: str


def channels_of(layer: nn.Module, *, into: bool = False) -> int:
    """Features that come out of a layer, or go into it."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels if into else layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features if into else layer.out_features
    if isinstance(layer, nn.RNNBase):
        width = layer.proj_size or layer.hidden_size
        return layer.input_size if into else width * (2 if layer.bidirectional else 1)

    raise TypeError(type(layer).__name__)


def find_sites(
    graph: Graph, layers: list[nn.Module], after_activation: bool
) -> tuple[dict[nn.Module, Site], dict[nn.Module, str]]:
    """Sites of the layers that get a norm, reasons of those that get none."""
    sites: dict[nn.Module, Site] = {}
    reasons: dict[nn.Module, str] = {}
    for layer in layers:
        found = _site(graph, layer, after_activation)
        if isinstance(found, str):
            reasons[layer] = found
        else:
            sites[layer] = found

    return sites, reasons


def _site(graph: Graph, layer: nn.Module, after_activation: bool) -> Site | str:
    calls = graph.calls_of(layer)
    if not calls:
        return "it is not called as a module"
    if len(calls) > 1:
        return f"it is called {len(calls)} times: one set of statistics would not fit all"
    if graph.reads_parameters_of(layer):
        return "its parameters are used elsewhere too"
    call = calls[0]
    norm = _norm_behind(graph, call)
    if norm is not None:
        return f"it is normalised already, by {norm}"
    if _reaches_output(graph, call):
        return "it is an output layer: its values leave the model"
    if not graph.consumers(call):
        return "nobody reads its output"
    if isinstance(layer, nn.RNNBase):
        return Site(layer, layer, "behind its outputs of all steps; its last state stays")

    return _site_behind(graph, layer, call, after_activation)


def _site_behind(graph: Graph, layer: nn.Module, call: Call, after_activation: bool) -> Site | str:
    reader = graph.reader(call)
    act = None if reader is None else _activation_name(reader)
    if not after_activation:
        return Site(layer, layer, f"before {act}" if act else "behind it, before no activation")
    if reader is None or act is None:
        return Site(layer, layer, "behind it, there is no activation")
    if reader.module is None:
        return f'its activation {act} is a function: use where="before_activation"'
    if len(graph.calls_of(reader.module)) > 1:
        return f'its activation {reader.target} is shared: use where="before_activation"'

    return Site(layer, reader.module, f"behind {act}")


def _activation_name(call: Call) -> str | None:
    if call.module is None:
        return call.target if call.target in _ACTIVATIONS else None
    known = activation_of(call.module) is not None and not isinstance(call.module, nn.Identity)
    home = type(call.module).__module__

    return type(call.module).__name__ if known or home == "torch.nn.modules.activation" else None


def _norm_behind(graph: Graph, call: Call, depth: int = 4) -> str | None:
    """The norm that follows, at once or after activations and additions."""
    for reader in graph.consumers(call):
        if isinstance(reader.module, (*_NORMS, Normalised)) or reader.target in _NORM_FUNCTIONS:
            return reader.target
        passes = reader.is_passing or _activation_name(reader) or reader.target in _MIXES
        found = _norm_behind(graph, reader, depth - 1) if passes and depth else None
        if found is not None:
            return found

    return None


def _reaches_output(graph: Graph, call: Call) -> bool:
    """Whether values come to the model's output without another layer's weights on the way."""
    waiting, seen = [call], {call}
    while waiting:
        for reader in graph.consumers(waiting.pop()):
            if reader.kind == "output":
                return True
            if reader not in seen and not isinstance(reader.module, LAYERS):
                seen.add(reader)
                waiting.append(reader)

    return False


def first_layer(graph: Graph) -> nn.Module | str:
    """The layer that alone reads the model's first input, or why there is none."""
    source = next((call for call in graph.calls if call.kind == "input"), None)
    readers = [] if source is None else graph.consumers(source)
    while len(readers) == 1 and not isinstance(readers[0].module, LAYERS):
        call = readers[0]
        if call.module is not None and isinstance(call.module, _NORMS):
            return f"the input is normalised already, by {call.target}"
        if not (call.is_passing or isinstance(call.module, nn.Flatten) or call.target == "flatten"):
            return f"the input goes through {call.target} first"
        readers = graph.consumers(call)
    if len(readers) != 1:
        return f"the input is read in {len(readers)} places"
    assert readers[0].module is not None
    if len(graph.calls_of(readers[0].module)) > 1:
        return f"{readers[0].target}, which reads the input, is called more than once"

    return readers[0].module
