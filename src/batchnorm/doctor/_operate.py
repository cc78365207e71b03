"""One fix as one operation: all or nothing, compared on the sample, with the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..surgery import Change, SurgeryReport
from ..surgery._proof import Mode, compare, record
from ..surgery._swap import Surgery
from ._context import Context

__all__ = ["operate"]


def operate(context: Context, change: Change, plan: Callable[[Surgery], None]) -> SurgeryReport:
    """Change the model as planned, and measure what that did to outputs and gradients.

    Args:
        context: of the finding; the optimizer follows the parameters.
        change: for the report.
        plan: tells a surgery what to do; it is committed here.

    Raises:
        Exception: whatever stops the surgery; the model is then as before.
    """
    sample, modes = _sample(context), _modes(context)
    before = record(context.model, sample, modes)
    surgery = Surgery("doctor", context.model, context.optimizer)
    plan(surgery)
    surgery.commit()
    try:
        after = record(surgery.model, sample, modes)
    except BaseException:
        surgery.undo()
        raise

    return SurgeryReport("doctor", surgery.model, [change], compare(before, after), surgery.undo)


def _sample(context: Context) -> Any:
    if not context.batches:
        return None
    batch = context.batches[0]

    return batch.args if batch.args else batch.kwargs


def _modes(context: Context) -> list[Mode]:
    """Those in which the model can run."""
    if context.live is None:
        return []
    modes: tuple[Mode, ...] = ("eval", "train")

    return [mode for mode in modes if context.live.runs(mode)]
