"""Plans of freezing: which layers hold what, and which are folded on the fly."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ..layers._batchnorm import _BatchNorm
from ._affine import is_norm, why_no_affine
from ._fold_plan import layer_before
from ._folding import FoldedBatchNorm, fold_on_the_fly, folds, unfold
from ._graph import Graph
from ._places import HELD, kind, paths_of, unreachable_place
from ._report import Change
from ._sources import read
from ._swap import Surgery
from ._targets import build

__all__ = ["can_hold", "described", "fold_all", "hold", "plan_hold", "unfolding"]


def hold(model: nn.Module, stats: bool, affine: bool) -> tuple[Surgery, list[Change]]:
    """Freeze every batch norm that can be."""
    surgery = Surgery("freeze", model)
    changes = plan_hold(surgery, filter(is_norm, model.modules()), stats, affine)
    surgery.commit()

    return surgery, changes


def plan_hold(
    surgery: Surgery, layers: Iterable[nn.Module], stats: bool, affine: bool
) -> list[Change]:
    """Plan the freezing of these batch norms; what will be done with each."""
    found, changes = paths_of(surgery.model), []
    for layer in layers:
        path, before = ", ".join(found[layer]), kind(layer)
        new = _ours(surgery.model, layer, stats)
        if isinstance(new, str):
            changes.append(Change(path, "skipped", before, reason=new))
            continue
        if new is not layer:
            surgery.replace(layer, new)
        held = _plan(surgery, new, stats, affine)
        remarks = [_remark(new) if stats else "", _unheld(new) if affine else ""]
        reason = "; ".join(filter(None, remarks))
        after = f"{'' if new is layer else f'{kind(new)}, '}{described(held)}"
        action = "changed" if new is layer else "replaced"
        changes.append(Change(path, action, before, after, reason))  # type: ignore[arg-type]

    return changes


def can_hold(model: nn.Module, layer: nn.Module) -> bool:
    """Whether a layer's statistics can be frozen."""
    return not isinstance(_ours(model, layer, stats=True), str)


def _ours(model: nn.Module, layer: nn.Module, stats: bool) -> _BatchNorm | str:
    """The layer, or one of ours with its tensors; or why neither."""
    if isinstance(layer, _BatchNorm):
        if stats and layer.running_mean is None:
            return "it has no running statistics (track_running_stats=False)"
        return layer
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return "it is frozen by its class"
    if fixed := unreachable_place(model, layer):
        return f"{fixed} {HELD}"
    source = read(layer)
    if isinstance(source, str):
        return source
    if stats and layer.running_mean is None:
        return "it has no running statistics (track_running_stats=False)"

    family = "SyncBatchNorm" if "Sync" in source.family else "BatchNorm"
    new = build(source, family, source.rank, {})
    assert isinstance(new, _BatchNorm)
    return new


def _plan(surgery: Surgery, layer: _BatchNorm, stats: bool, affine: bool) -> tuple[str, ...]:
    """Plan the freezing of one layer; what it will hold."""
    held = ["stats"] if stats else []
    if affine:
        for name, parameter in _trainable(layer):
            surgery.set_attribute(parameter, "requires_grad", False)
            held.append(name)
    names = tuple(dict.fromkeys([*layer.frozen, *held]))
    surgery.set_attribute(layer, "frozen", names)
    if stats:
        surgery.set_attribute(layer, "training", False)

    return names


def _trainable(layer: _BatchNorm) -> Iterator[tuple[str, nn.Parameter]]:
    for name in ("weight", "bias"):
        parameter = getattr(layer, name)
        if isinstance(parameter, nn.Parameter) and parameter.requires_grad:
            yield name, parameter


def _unheld(layer: _BatchNorm) -> str:
    computed = [name for name in ("weight", "bias") if is_parametrized(layer, name)]

    return f"not {' and '.join(computed)}, which a parametrization computes" if computed else ""


def _remark(layer: _BatchNorm) -> str:
    tracked = layer.num_batches_tracked
    unseen = tracked is not None and not tracked.is_meta and not bool(tracked.any())

    return "it has seen no batch: its statistics are those it was given" if unseen else ""


def fold_all(model: nn.Module, graph: Graph, changes: list[Change]) -> tuple[Surgery, list[Change]]:
    """Fold on the fly where it is exact; the changes with that in their reasons."""
    surgery = Surgery("freeze", model)
    paths = {", ".join(found): module for module, found in paths_of(model).items()}
    names = {module: path for path, module in paths.items()}
    result = []
    for change in changes:
        layer = paths[change.path]
        if change.action == "skipped" or isinstance(layer, FoldedBatchNorm):
            result.append(change)
            continue
        target = why_no_affine(layer) or layer_before(graph, layer)
        if not isinstance(target, str) and not folds(target):
            target = f"{kind(target)} before it cannot"
        if isinstance(target, str):
            reason = f"not folded: {target}"
        else:
            surgery.call(*reversed(unfolding(layer, target)))
            reason = f"folded into {names[target]} at every call"
        said = "; ".join(part for part in (change.reason, reason) if part)
        result.append(Change(change.path, change.action, change.before, change.after, said))
    surgery.commit()

    return surgery, result


def unfolding(layer: Any, target: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Unfold, and the way back."""
    return (lambda: unfold(layer)), (lambda: fold_on_the_fly(target, layer))


def described(held: tuple[str, ...]) -> str:
    """As the layer's text shows it."""
    return f"frozen={'+'.join(held)}" if held else "nothing to hold"
