"""Which batch norm goes into which layer, and why others stay."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from ..layers import BatchNormGRU, BatchNormLSTM, SequenceBatchNorm, SyncBatchNorm
from ._affine import Affine, affine_of, is_norm, why_no_affine
from ._fold_into import Kernel, has_own_weight, is_target, why_not_behind, why_not_mixed
from ._fold_reasons import why_no_partner
from ._graph import Call, Graph
from ._one_domain import OneDomain, is_by_domain, one_domain
from ._places import HELD, Places

__all__ = ["Plan", "layer_before", "plan_fold"]


@dataclass
class Plan:
    """What folding will do.

    Args:
        places: where the model holds its layers.
        dims: of the inputs of batch norms, where they are known.
        kernels: the new weight and bias of each layer that takes something in.
        folded: for each batch norm that goes: the layer, and whether the layer comes before it.
        skipped: for each that stays: why.
        domains: the one domain of layers that have several.
    """

    places: Places
    dims: Mapping[nn.Module, int]
    kernels: dict[nn.Module, Kernel] = field(default_factory=dict)
    folded: dict[nn.Module, tuple[nn.Module, bool]] = field(default_factory=dict)
    skipped: dict[nn.Module, str] = field(default_factory=dict)
    domains: dict[nn.Module, OneDomain] = field(default_factory=dict)

    def affine_of(self, layer: nn.Module) -> Affine:
        """Scale and shift of a layer, or of the one domain that it is used for."""
        return affine_of(self.domains.get(layer, layer))


def plan_fold(
    model: nn.Module, graph: Graph, dims: Mapping[nn.Module, int] = MappingProxyType({})
) -> Plan:
    """Decide for every batch norm of the model, in the order of the calls.

    Args:
        model: is not changed.
        graph: of its calls.
        dims: of the inputs of batch norms, where they are known.
    """
    plan = Plan(Places(model), dims)
    called = [module for module in graph.modules() if is_norm(module)]
    for layer in called:
        reason = _why_not(plan, graph, layer)
        if not reason:
            reason = _into_layer_before(plan, graph, layer)
            if reason:
                reason = _into_layer_behind(plan, graph, layer, reason)
        if reason:
            plan.skipped[layer] = reason
    inside = {
        part: whole
        for whole in model.modules()
        if _applies_parts(whole)
        for part in whole.modules()
    }
    for layer in model.modules():
        if is_norm(layer) and layer not in called:
            why = why_no_affine(layer)
            if layer in inside:
                why = why or f"{type(inside[layer]).__name__} applies it inside"
            plan.skipped[layer] = why or _unseen(graph)

    return plan


def _applies_parts(module: nn.Module) -> bool:
    """Whether a layer of ours has batch norms inside that no model calls."""
    return isinstance(module, BatchNormLSTM | BatchNormGRU)


def _unseen(graph: Graph) -> str:
    if graph.way == "parts":
        return "what calls it could not be traced; a sample may help"

    return "it is not called"


def _why_not(plan: Plan, graph: Graph, layer: nn.Module) -> str:
    calls = graph.calls_of(layer)
    if is_by_domain(layer) and not layer.training and layer.running_mean is not None:
        one = one_domain(layer, calls)
        if isinstance(one, str):
            return one
        plan.domains[layer] = one
    elif reason := why_no_affine(layer):
        return reason
    if fixed := plan.places.fixed(layer):
        return f"{fixed} {HELD}"
    if any({"lengths", "weight", "bias"} & set(call.kwargs) for call in calls):
        return "it is called with lengths, or a weight and bias of the call"
    if graph.way == "export" and layer.weight is None and any(len(c.inputs) > 1 for c in calls):
        return "torch.export does not tell a residual from a weight of the call"
    if graph.reads_parameters_of(layer):
        return "its parameters or statistics are read elsewhere"

    return ""


def _into_layer_before(plan: Plan, graph: Graph, layer: nn.Module) -> str:
    """Fold into the layer that feeds it, or say why not."""
    target = layer_before(graph, layer)
    if isinstance(target, str):
        return target
    affine = plan.affine_of(layer)
    if (
        reason := _why_other_axis(plan, target, layer)
        or _why_fixed(plan, target)
        or why_not_mixed(target, affine, out=True)
    ):
        return reason

    kernel = plan.kernels.get(target) or Kernel.of(target)
    plan.kernels[target] = kernel.then(affine)
    plan.folded[layer] = target, True
    calls = graph.calls_of(layer)
    if not _does_more(layer, calls):
        graph.through.update(calls)

    return ""


def layer_before(graph: Graph, layer: nn.Module) -> nn.Module | str:
    """The convolution or linear layer that feeds a batch norm and nothing else, or why none."""
    calls = graph.calls_of(layer)
    if not calls:
        return _unseen(graph)
    sources = list(dict.fromkeys(map(graph.source, calls)))
    targets = {source.module for source in sources if source is not None}
    target = targets.pop() if len(targets) == 1 and None not in sources else None
    if target is None or not _fits(target, layer, out=True):
        return why_no_partner(graph, calls, "fed")

    readers = [graph.reader(call) for call in graph.calls_of(target)]
    if reason := _why_not_alone(graph, target, layer, readers):
        return reason
    if graph.is_watched(target, layer):
        return "a hook between it and the layer before would see other values"

    return target


def _into_layer_behind(plan: Plan, graph: Graph, layer: nn.Module, before: str) -> str:
    """Fold into the layer that reads it, or say why neither works."""
    calls = graph.calls_of(layer)
    readers = list(dict.fromkeys(map(graph.reader, calls)))
    targets = {reader.module for reader in readers if reader is not None}
    target = targets.pop() if len(targets) == 1 and None not in readers else None
    if target is None or not _fits(target, layer, out=False):
        return before

    affine = plan.affine_of(layer)
    sources = [graph.source(call) for call in graph.calls_of(target)]
    if _does_more(layer, calls):
        reason = "an activation or residual stands between"
    elif layer._forward_pre_hooks:
        reason = "a hook before it may change its input"
    elif graph.is_watched(layer, target):
        reason = "a hook between them would see other values"
    elif any(len(call.args) + len(call.kwargs) > 1 for call in graph.calls_of(target)):
        reason = "the layer behind is called with more than its input"
    else:
        reason = (
            _why_not_alone(graph, target, layer, sources)
            or _why_other_axis(plan, target, layer)
            or _why_fixed(plan, target)
            or why_not_behind(target, affine)
            or why_not_mixed(target, affine, out=False)
        )
    if reason:
        return f"{before}; and not into the layer behind: {reason}"

    kernel = plan.kernels.get(target) or Kernel.of(target)
    plan.kernels[target] = kernel.after(affine)
    plan.folded[layer] = target, False
    graph.through.update(calls)

    return ""


def _fits(target: nn.Module, layer: nn.Module, *, out: bool) -> bool:
    """Whether the target's channels are the batch norm's."""
    if not is_target(target):
        return False
    if not _share_an_axis(target, layer):
        return False
    names = ("out_features", "out_channels") if out else ("in_features", "in_channels")
    channels = next(getattr(target, name) for name in names if hasattr(target, name))
    features: Any = layer.running_mean

    return bool(channels == features.shape[-1])


def _share_an_axis(target: nn.Module, layer: nn.Module) -> bool:
    """Whether the target's features can be the axis that is normalised.

    Linear layers have theirs in the last axis: behind ``(N, L, C)`` the second is another.
    """
    is_linear = isinstance(target, nn.Linear)
    if isinstance(layer, SequenceBatchNorm):
        return is_linear == (layer.channel_axis != 1)

    return not is_linear or isinstance(layer, nn.BatchNorm1d | nn.SyncBatchNorm | SyncBatchNorm)


def _why_other_axis(plan: Plan, target: nn.Module, layer: nn.Module) -> str:
    """Why the second axis of what was seen is not that of the target's channels; empty if it is."""
    dims = plan.dims.get(layer)
    if dims is None or isinstance(layer, SequenceBatchNorm):
        return ""
    expected = 2 if isinstance(target, nn.Linear) else len(target.kernel_size) + 2  # type: ignore[arg-type]

    return "" if dims == expected else "it normalises another axis than the layer's channels"


def _why_fixed(plan: Plan, target: nn.Module) -> str:
    fixed = plan.places.fixed(target)

    return f"the layer next to it cannot change: {fixed} {HELD}" if fixed else ""


def _does_more(layer: nn.Module, calls: list[Call]) -> bool:
    """Whether it is more than a scale and a shift: activation, residual, mask."""
    active = getattr(layer, "activation", "identity") != "identity" or hasattr(layer, "act")
    return active or any(len(call.inputs) > 1 for call in calls)


def _why_not_alone(
    graph: Graph, target: nn.Module, layer: nn.Module, others: list[Call | None]
) -> str:
    if graph.reads_parameters_of(target):
        return "the layer's weight is used elsewhere"
    if not has_own_weight(target):
        return "a hook computes the layer's weight at every call: remove it (weight_norm, pruning)"
    if any(other is None or other.module is not layer for other in others):
        return "the layer is shared with calls that go another way"

    return ""
