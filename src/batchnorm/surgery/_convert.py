"""Batch norm layers of a model exchanged for layers of another kind."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._errors import explain
from ..layers import domain
from ._fuse import finish_fusions, plan_fusions
from ._proof import Mode
from ._prove import commit_and_prove
from ._report import Proof, SurgeryReport
from ._sources import is_candidate, is_whole_batch
from ._swap import Surgery
from ._targets import DOMAINS, OTHER_FUNCTIONS, SAME_IN_TRAINING, is_ours, parse_target
from ._wish import Builder, Wish, ranks_of

__all__ = ["convert"]

_WHO = "convert"


@torch.inference_mode(False)  # parameters made in that mode could never be trained
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
    candidates = [module for module in model.modules() if is_candidate(module)]
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
    wish = Wish(model, to, family, only, options, ranks_of(model, candidates, sample))
    if fuse:
        _check_fuse(family, sample)
        wish.fusions = plan_fusions(model, list(filter(wish.may_fuse, candidates)), sample)
    changes = []
    for layer in candidates:
        change, new = wish.exchange(layer)
        changes.append(change)
        if new is not None:
            surgery.replace(layer, new)
    changes += finish_fusions(surgery, wish.fusions)

    proofs = _commit(surgery, family, candidates, sample)
    return SurgeryReport(_WHO, surgery.model, changes, proofs, surgery.undo)


def _is_builder(to: Any) -> bool:
    return callable(to) and not isinstance(to, type)


def _check_fuse(family: str | None, sample: Any) -> None:
    """Layers of the target can fuse, and there is a sample for the proof.

    Raises:
        ValueError: not so.
    """
    if family is None or not is_ours(family):
        rule, got = "fuse=True needs layers of ours", f"to={family or 'a function'!r}"
        raise ValueError(explain(_WHO, rule, got, 'Use to="BatchNorm"'))
    if sample is None:
        rule = "fuse=True changes what layers do, and must be proved"
        raise ValueError(explain(_WHO, rule, "no sample", "Pass sample="))


def _commit(
    surgery: Surgery, family: str | None, layers: list[nn.Module], sample: Any
) -> list[Proof]:
    everywhere = family in SAME_IN_TRAINING and all(map(is_whole_batch, layers))
    modes: tuple[Mode, ...] = ("eval", "train") if everywhere else ("eval",)
    same = family is not None and family not in OTHER_FUNCTIONS
    if family not in DOMAINS:
        return commit_and_prove(surgery, sample, modes, same=same)

    if not all(map(_has_statistics, layers)):
        sample = None  # a domain without a batch has nothing to normalise by
    return commit_and_prove(
        surgery, sample, modes, same=same, around=lambda model: domain(model, 0)
    )


def _has_statistics(layer: nn.Module) -> bool:
    seen = getattr(layer, "num_batches_tracked", None)
    return seen is not None and bool(seen.min() > 0)
