"""Commit an operation, compare a sample before and after, and take it back if they differ."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from .._errors import explain
from ._proof import Mode, Recording, compare, record, widened
from ._report import Proof
from ._swap import Surgery

__all__ = ["commit_and_prove"]


def commit_and_prove(
    surgery: Surgery,
    sample: Any,
    modes: Sequence[Mode],
    *,
    same: bool = True,
    gradients: bool = True,
    around: Callable[[nn.Module], AbstractContextManager[None]] = lambda model: nullcontext(),
) -> list[Proof]:
    """Commit, and say how far outputs and gradients on the sample moved.

    Whether they are the same is decided in float64 copies of the model, where rounding is far
    below every real difference; in the model's own dtype where it cannot be copied or widened.

    Args:
        surgery: planned, not committed.
        sample: see ``record``; None: nothing is compared.
        modes: to compare in.
        same: whether the function must be the same; otherwise the difference is only measured.
        gradients: whether to compare these too.
        around: a context that the changed model needs while it runs.

    Raises:
        RuntimeError: the function is not the same. The model is then as it was.
    """
    if sample is None:
        surgery.commit()
        return []

    before = record(surgery.model, sample, modes, gradients=gradients)
    wide_before = _wide(surgery, sample, modes, gradients) if same else None
    surgery.commit()
    try:
        with around(surgery.model):
            proofs = compare(before, record(surgery.model, sample, modes, gradients=gradients))
            wide_after = None if wide_before is None else _wide(surgery, sample, modes, gradients)
        if same:
            wide = (
                None
                if wide_before is None or wide_after is None
                else compare(wide_before, wide_after)
            )
            _judge(surgery.who, proofs if wide is None else wide)
            proofs += wide or []
    except BaseException:
        surgery.undo()
        raise

    return proofs


def _wide(
    surgery: Surgery, sample: Any, modes: Sequence[Mode], gradients: bool
) -> list[Recording] | None:
    twins = widened(surgery.model, sample)
    if twins is None:
        return None

    try:
        return record(*twins, modes, gradients=gradients)
    except (RuntimeError, TypeError, ValueError):  # a model may insist on float32
        return None


def _judge(who: str, proofs: Sequence[Proof]) -> None:
    """Every deviation is below the square root of its precision.

    Raises:
        RuntimeError: one is not.
    """
    for proof in proofs:
        bound = torch.finfo(getattr(torch, proof.dtype)).eps ** 0.5
        if not proof.max_rel <= bound:
            raise RuntimeError(
                explain(
                    who,
                    f"the function must stay the same, to {bound:.2g} of the largest value",
                    str(proof),
                    "The model is as it was; operate on fewer layers (only=) to find the one, or "
                    "pass no sample to do without the comparison",
                )
            )
