"""Commit an operation, compare a sample before and after, and take it back if they differ."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from .._errors import explain
from ._proof import Mode, Recording, compare, record, widened
from ._report import Proof
from ._swap import Surgery

__all__ = ["commit_and_prove"]

# An operation rounds anew in every layer, not only at the input.
_ROUNDINGS = 100


def commit_and_prove(
    surgery: Surgery,
    sample: Any,
    modes: Sequence[Mode],
    *,
    same: bool = True,
    gradients: bool = True,
    rounds: bool = False,
    around: Callable[[nn.Module], AbstractContextManager[None]] = lambda model: nullcontext(),
) -> list[Proof]:
    """Commit, and say how far outputs and gradients on the sample moved.

    Whether they are the same is decided in float64 copies of the model, where rounding is far
    below every real difference; in the model's own dtype where it cannot be copied or widened.
    What is allowed is the square root of the precision, or more where the unchanged model itself
    answers more to a rounding of its input (batch norm over two values is such a case).

    Args:
        surgery: planned, not committed.
        sample: see ``record``; None: nothing is compared.
        modes: to compare in.
        same: whether the function must be the same; otherwise the difference is only measured.
        gradients: whether to compare these too.
        rounds: whether the operation writes new values, which the model's own dtype rounds.
        around: a context that the changed model needs while it runs.

    Raises:
        RuntimeError: the function is not the same. The model is then as it was.
    """
    if sample is None:
        surgery.commit()
        return []

    before = record(surgery.model, sample, modes, gradients=gradients)
    wide_before, allowed = None, dict[str, float]()
    if same:
        wide_before = _wide(surgery, sample, modes, gradients)
        allowed = _allowed(surgery, sample, modes, gradients, before, wide_before)
    surgery.commit()
    try:
        with around(surgery.model):
            proofs = compare(before, record(surgery.model, sample, modes, gradients=gradients))
            wide_after = None if wide_before is None else _wide(surgery, sample, modes, gradients)
        if same:
            both = None not in (wide_before, wide_after)
            wide = compare(wide_before or [], wide_after or []) if both else []
            if rounds:
                written = {proof.what: _ROUNDINGS * _eps(proof) for proof in proofs}
                allowed = {what: max(bound, written[what]) for what, bound in allowed.items()}
            _judge(surgery.who, wide or proofs, allowed)
            proofs += wide
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


def _allowed(
    surgery: Surgery,
    sample: Any,
    modes: Sequence[Mode],
    gradients: bool,
    own: list[Recording],
    wide: list[Recording] | None,
) -> dict[str, float]:
    """How far each result may move: by what a rounding of the input does, many times over."""
    if wide is None:
        shaken = record(surgery.model, _shaken(sample), modes, gradients=gradients)
        answers = compare(own, shaken)
    else:
        twins = widened(surgery.model, _shaken(sample, torch.float64))
        assert twins is not None
        answers = compare(wide, record(*twins, modes, gradients=gradients))

    return {a.what: max(_eps(a) ** 0.5, _ROUNDINGS * a.max_rel) for a in answers}


def _shaken(sample: Any, dtype: torch.dtype | None = None) -> Any:
    """Float tensors with another last bit."""
    generator = torch.Generator().manual_seed(2)

    def shake(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        x = x.to(dtype or x.dtype)
        up = torch.rand(x.shape, generator=generator).round().to(x)
        return x * (1 + torch.finfo(x.dtype).eps * up)

    return _pytree.tree_map(shake, sample)


def _eps(proof: Proof) -> float:
    return float(torch.finfo(getattr(torch, proof.dtype)).eps)


def _judge(who: str, proofs: Sequence[Proof], allowed: dict[str, float]) -> None:
    """Every deviation is as small as allowed.

    Raises:
        RuntimeError: one is not.
    """
    for proof in proofs:
        bound = allowed[proof.what]
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
