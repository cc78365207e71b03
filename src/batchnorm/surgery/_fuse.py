"""Which activations and additions follow batch norm layers, and can be done by them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from .._types import ActivationName
from ._activations import activation_of
from ._graph import Graph
from ._places import Places, kind, paths_of
from ._replay import faithful
from ._report import Change
from ._rewrite import Rewritten, rewritten
from ._swap import Surgery, carry_over
from ._trace import trace

__all__ = ["Fusions", "finish_fusions", "plan_fusions"]


@dataclass
class Fusions:
    """What to fuse.

    Args:
        activations: what each layer is to do at its end.
        dropped: activation modules that are then done already; they become ``nn.Identity``.
        owners: modules whose forward is written anew, because a shared or functional activation
            or an addition goes away.
        notes: what is said of a layer, also of those with nothing to fuse.
    """

    activations: dict[nn.Module, tuple[ActivationName, float]] = field(default_factory=dict)
    dropped: list[nn.Module] = field(default_factory=list)
    owners: dict[nn.Module, fx.GraphModule] = field(default_factory=dict)
    notes: dict[nn.Module, str] = field(default_factory=dict)


def plan_fusions(model: nn.Module, layers: list[nn.Module], sample: Any) -> Fusions:
    """Find BN→activation and BN→addition→activation.

    An activation module that only ever follows one layer is dropped where it stands; everything
    else needs a new forward for the module that makes the calls, by torch.fx of that module alone.

    Args:
        model: is not changed.
        layers: batch norm layers that are going to be ours, without activation.
        sample: for models that torch.fx cannot trace.
    """
    fusions = Fusions()
    graphs = [_traced(model, mode, sample) for mode in (True, False)]
    paths, places = paths_of(model), Places(model)
    for layer in layers:
        reason = _why_not(layer, paths)
        if reason:
            fusions.notes[layer] = reason
            continue
        act = _activation_behind(layer, graphs)
        if act is not None and places.fixed(act) is None:
            name, slope = activation_of(act) or ("identity", 0.0)
            fusions.activations[layer] = (name, slope)
            fusions.dropped.append(act)
            fusions.notes[layer] = f"with {name}"

    waiting = {m for m in layers if m not in fusions.notes and m not in fusions.activations}
    plans: dict[nn.Module, Rewritten] = {}
    for owner in list(model.modules()):
        container = isinstance(owner, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        if container or places.fixed(owner) is not None:
            continue
        if waiting & set(owner.modules()) - {owner}:
            new = rewritten(owner, waiting)
            if not isinstance(new, str):
                plans[owner] = new
                waiting -= set(new.found)

    seen = faithful(model, {owner: plan.plain for owner, plan in plans.items()}, sample)
    for owner, plan in plans.items():
        if owner in seen:
            _accept(owner, plan, fusions)
        else:
            reason = "not fused: torch.fx sees another forward than the one that runs"
            fusions.notes.update(dict.fromkeys(plan.found, reason))

    return fusions


def _accept(owner: nn.Module, plan: Rewritten, fusions: Fusions) -> None:
    fusions.owners[owner] = plan.module
    for layer, (name, slope, adds) in plan.found.items():
        fusions.activations[layer] = (name, slope)
        done = [*(["the addition"] if adds else []), *([name] if name != "identity" else [])]
        fusions.notes[layer] = f"with {' and '.join(done)}"


def _why_not(layer: nn.Module, paths: dict[nn.Module, list[str]]) -> str | None:
    if len(paths[layer]) > 1:
        return "not fused: it is shared"
    if layer._forward_hooks or layer._backward_hooks:
        return "not fused: its hooks see its output"

    return None


def finish_fusions(surgery: Surgery, fusions: Fusions) -> list[Change]:
    """Plan the exchange of what fused layers make superfluous, and say so."""
    paths = paths_of(surgery.model)
    changes = []
    for act in fusions.dropped:
        identity = nn.Identity()
        carry_over(act, identity)
        surgery.replace(act, identity)
        path, reason = ", ".join(paths[act]), "done by batch norm"
        changes.append(Change(path, "replaced", kind(act), kind(identity), reason))
    for owner, module in fusions.owners.items():
        surgery.replace(owner, module)
        path, reason = ", ".join(paths[owner]), "its forward is written anew by torch.fx"
        changes.append(Change(path, "replaced", kind(owner), type(module).__name__, reason))

    return changes


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    try:
        for module in before:
            module.training = training
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _traced(model: nn.Module, training: bool, sample: Any) -> Graph:
    with _mode(model, training):
        # Without torch.export, which runs the model in training and names functions, not modules.
        return trace(model, sample, ways=("fx", "parts"))


def _activation_behind(layer: nn.Module, graphs: list[Graph]) -> nn.Module | None:
    """The activation module that follows every call of the layer, and follows nothing else."""
    found: set[nn.Module | None] = set()
    for graph in graphs:
        for call in graph.calls_of(layer):
            readers = graph.consumers(call)
            act = readers[0].module if len(readers) == 1 else None
            alone = act is not None and len(graph.calls_of(act)) == len(graph.calls_of(layer)) == 1
            found.add(act if alone else None)
    act = found.pop() if len(found) == 1 else None
    known = None if act is None or isinstance(act, nn.Identity) else activation_of(act)

    return act if known is not None else None
