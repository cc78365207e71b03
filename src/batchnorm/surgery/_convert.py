"""Batch norm layers of a model exchanged for layers of another kind."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._errors import explain
from ..layers import SyncBatchNorm, domain
from ._fuse import Fusions, plan_fusions
from ._places import kind, paths_of, unreachable_place
from ._proof import Mode, record
from ._prove import commit_and_prove
from ._report import Change, SurgeryReport
from ._sources import Source, is_candidate, is_whole_batch, read
from ._swap import Surgery, carry_over
from ._targets import (
    DOMAINS,
    OTHER_FUNCTIONS,
    SAME_IN_TRAINING,
    build,
    is_ours,
    parse_target,
)

__all__ = ["convert"]

_WHO = "convert"
Builder = Callable[[nn.Module], nn.Module | None]


def convert(
    model: nn.Module,
    to: str | type[nn.Module] | Builder = "BatchNorm",
    *,
    optimizer: Optimizer | None = None,
    sample: Any = None,
    fuse: bool = False,
    only: Callable[[str, nn.Module], bool] | None = None,
    **options: Any,
) -> SurgeryReport:
    """Exchange the batch norm layers of a model for layers of another kind, in place.

    Parameters and buffers stay the same objects where they fit, so that the ``state_dict``,
    sharing, hooks, mode, device, dtype and the optimizer stay as they are. A layer that is shared
    is exchanged wherever it is held. Layers that cannot be exchanged without losing something
    (an unknown subclass, a parametrization, an activation) are left, with the reason.

    Args:
        model: any module; a batch norm layer itself too (then use ``report.model``).
        to: a family by name or by one of its classes: ``"BatchNorm"``, ``"SyncBatchNorm"``,
            ``"GhostBatchNorm"``, ... (ours); ``"torch.BatchNorm"``, ``"torch.SyncBatchNorm"``;
            ``"GroupNorm"``, ``"LayerNorm"``, ``"InstanceNorm"``, ``"Identity"``. Or a function
            that is given a layer and returns another, or None to leave it.
        optimizer: whose groups and state follow parameters that are exchanged.
        sample: a tensor, a tuple of arguments or a dict of keyword arguments. With it, outputs
            and gradients before and after are compared.
        fuse: also take activations and additions that follow into the layer (``to="BatchNorm"``).
        only: takes a dotted path and a layer; False leaves it.
        options: constructor arguments of the new layers: ``ghost_batch_size=32``. For
            ``"GroupNorm"``: ``num_groups`` (default: the largest divisor of C and 32).

    Returns:
        What was done, what was left and why, the comparison; can be undone.

    Raises:
        ValueError: an unknown target or option, or a model without batch norm.
        RuntimeError: the function changed where it must not. The model is then as it was.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        >>> report = convert(model, sample=torch.randn(8, 3))
        >>> model[1]
        BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
        >>> [change.after for change in report.done]
        ['batchnorm.BatchNorm1d']
    """
    family = None if _is_builder(to) else parse_target(to, _WHO)  # type: ignore[arg-type]
    candidates = {m: p for m, p in paths_of(model).items() if is_candidate(m)}
    if not candidates:
        raise ValueError(
            explain(
                _WHO,
                "the model must have batch norm layers",
                f"{type(model).__name__} without any",
                "Use insert to put some in",
            )
        )

    surgery = Surgery(_WHO, model, optimizer)
    ranks = _ranks(model, candidates, sample)
    fusions = _fusions(model, candidates, family, sample, only) if fuse else Fusions()
    changes = []
    for layer, paths in candidates.items():
        change, new = _exchange(
            *(model, layer, paths, to, family, ranks.get(layer), only, options, fusions)
        )
        changes.append(change)
        if new is not None:
            surgery.replace(layer, new)
    changes += _finish_fusions(surgery, model, fusions)

    everywhere = family in SAME_IN_TRAINING and all(map(is_whole_batch, candidates))
    modes: tuple[Mode, ...] = ("eval", "train") if everywhere else ("eval",)
    same = family is not None and family not in OTHER_FUNCTIONS
    if family in DOMAINS and not all(_has_statistics(layer) for layer in candidates):
        sample = None  # a domain without a batch has nothing to normalise by
    around = (lambda model: domain(model, 0)) if family in DOMAINS else _plainly
    proofs = commit_and_prove(surgery, sample, modes, same=same, around=around)
    return SurgeryReport(_WHO, surgery.model, changes, proofs, surgery.undo)


def _plainly(model: nn.Module) -> AbstractContextManager[None]:
    return nullcontext()


def _has_statistics(layer: nn.Module) -> bool:
    seen = getattr(layer, "num_batches_tracked", None)
    return seen is not None and bool(seen.min() > 0)


def _is_builder(to: Any) -> bool:
    return callable(to) and not isinstance(to, type)


def _exchange(
    model: nn.Module,
    layer: nn.Module,
    paths: list[str],
    to: Any,
    family: str | None,
    rank: int | None,
    only: Callable[[str, nn.Module], bool] | None,
    options: dict[str, Any],
    fusions: Fusions,
) -> tuple[Change, nn.Module | None]:
    """A new layer and what to say about it, or None and the reason."""
    path, before = ", ".join(paths), kind(layer)

    def left(reason: str) -> tuple[Change, None]:
        return Change(path, "skipped", before, reason=reason), None

    if only is not None and not any(only(p, layer) for p in paths):
        return left("not chosen by only")
    fixed = unreachable_place(model, layer)
    if fixed is not None:
        return left(f"{fixed} holds it in a tuple or set, where it cannot be exchanged")
    if family is None:
        made = to(layer)
        if made is None or made is layer:
            return left("left by the function")
        carry_over(layer, made)
        return Change(path, "replaced", before, kind(made)), made

    source = read(layer)
    if isinstance(source, str):
        return left(source)
    if layer in fusions.activations:
        name, slope = fusions.activations[layer]
        source = dataclasses.replace(source, activation=name, slope=slope)
    elif source.family == family and not options:
        return left("it is one already")
    try:
        new = build(source, family, source.rank or rank, options)
        if isinstance(new, SyncBatchNorm) and "name" not in options:
            new.name = paths[0]
    except ValueError as error:
        return left(str(error))

    note = fusions.notes.get(layer) or _note(source, new)
    return Change(path, "replaced", before, kind(new), note), new


def _fusions(
    model: nn.Module,
    layers: dict[nn.Module, list[str]],
    family: str | None,
    sample: Any,
    only: Callable[[str, nn.Module], bool] | None,
) -> Fusions:
    """Plan for the layers that will be ours and do nothing but batch norm yet.

    Raises:
        ValueError: layers of the target cannot fuse anything, or there is no sample as a proof.
    """
    if family is None or not is_ours(family):
        rule, got = "fuse=True needs layers of ours", f"to={family or 'a function'!r}"
        raise ValueError(explain(_WHO, rule, got, 'Use to="BatchNorm"'))
    if sample is None:
        rule = "fuse=True changes what layers do, and must be proved"
        raise ValueError(explain(_WHO, rule, "no sample", "Pass sample="))

    free = []
    for layer, paths in layers.items():
        source = read(layer)
        chosen = only is None or any(only(path, layer) for path in paths)
        if isinstance(source, Source) and source.activation == "identity" and chosen:
            free.append(layer)

    return plan_fusions(model, free, sample)


def _finish_fusions(surgery: Surgery, model: nn.Module, fusions: Fusions) -> list[Change]:
    """Exchange what the fused layers make superfluous."""
    paths = paths_of(model)
    changes = []
    for act in fusions.dropped:
        identity = nn.Identity()
        carry_over(act, identity)
        surgery.replace(act, identity)
        path = ", ".join(paths[act])
        reason = "done by batch norm"
        changes.append(Change(path, "replaced", kind(act), kind(identity), reason))
    for owner, module in fusions.owners.items():
        surgery.replace(owner, module)
        path = ", ".join(paths[owner])
        reason = "its forward is written anew by torch.fx"
        changes.append(Change(path, "replaced", kind(owner), type(module).__name__, reason))

    return changes


def _note(source: Source, new: nn.Module) -> str:
    """What the user may want to know about an exchange."""
    if source.family.startswith("timm.") and source.activation != "identity":
        return f"with its activation {source.activation}"
    lost = source.options.get("on_single", "error") != "error" and not hasattr(new, "on_single")

    return "its on_single policy is lost" if lost else ""


def _ranks(model: nn.Module, layers: dict[nn.Module, list[str]], sample: Any) -> dict[Any, int]:
    """Ranks that come to layers which take any, seen on the sample."""
    if sample is None:
        return {}

    ranks: dict[Any, int] = {}

    def see(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], torch.Tensor):
            ranks[module] = max(args[0].ndim - 2, 1)

    handles = [layer.register_forward_pre_hook(see) for layer in layers]
    try:
        record(model, sample, gradients=False)
    finally:
        for handle in handles:
            handle.remove()

    return ranks
