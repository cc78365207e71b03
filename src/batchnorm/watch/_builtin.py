"""Faults that the numbers of a row show by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._alerts import Alert, Moment, Severity
from ._schema import Row

__all__ = ["builtin"]

# Steps in which running statistics are still on their way from 0 and 1, and the network moves most:
# of the first values, momentum 0.1 has 0.5 % left after that.
_WARM_UP = 50


def builtin(moment: Moment) -> Iterator[Alert]:
    """What the numbers of a row say by themselves."""
    for row in moment.rows:
        before = moment.before.get(row["path"], {})
        for check in (_nonfinite, _apart, _still, _twice, _dead, _saturated, _few):
            found = check(row, before)
            if found is not None:
                code, name, severity, message, remedy, measured = found
                yield Alert(
                    code, name, severity, row["path"], message, remedy, measured, moment.step
                )


_Checked = tuple[str, str, Severity, str, str, dict[str, Any]] | None


def _nonfinite(row: Row, before: Row) -> _Checked:
    lost = row["in_nonfinite"]
    if not lost:
        return None

    return (
        *("BN501", "non-finite-input", "error"),
        f"{lost:.0f} of {row['channels']} input channels have NaN or infinity",
        "Look at the first such layer; with mixed precision at the loss scale",
        {"channels": lost},
    )


def _apart(row: Row, before: Row) -> _Checked:
    """Beyond chance (5 errors, as a mean over channels), of weight (σ/2), and in two rows."""

    def is_apart(one: Row) -> bool:
        errors, distance = one.get("distance_errors"), one.get("distance_mean")
        if not errors or not distance or one["step"] < _WARM_UP:
            return False
        return bool(errors > 5 and distance > 0.5 and one["training"])

    if not (is_apart(row) and is_apart(before)):
        return None

    return (
        *("BN502", "running-statistics-apart", "warning"),
        f"the batch mean is {row['distance_mean']:.2g} standard deviations from the running mean",
        "Raise the momentum, lower the learning rate, or recalibrate before evaluation",
        {"distance": row["distance_mean"], "errors": row["distance_errors"]},
    )


def _still(row: Row, before: Row) -> _Checked:
    if not row["training"] or row["updates"] != 0 or not before.get("training"):
        return None

    return (
        *("BN503", "stale-statistics", "warning"),
        f"running statistics have not changed for {row['stale']:.0f} steps in training mode",
        "Freeze the layer if that is meant, or let its updates through",
        {"steps": row["stale"]},
    )


def _twice(row: Row, before: Row) -> _Checked:
    times = row["updates_per_call"]
    if times is None or times < 2:
        return None

    return (
        *("BN504", "double-updates", "warning"),
        f"one forward has updated the running statistics {times:g} times",
        "Activation checkpointing repeats the forward: use this package's layer, which knows",
        {"updates": times},
    )


def _dead(row: Row, before: Row) -> _Checked:
    if (row["dead"] or 0) < 0.5 or not row["in_std"]:
        return None

    return (
        *("BN505", "dead-channels", "warning"),
        f"{row['dead']:.0%} of {row['channels']} channels give one value for the whole batch",
        "Lower the learning rate; look at weight and bias of the batch norm before",
        {"share": row["dead"]},
    )


def _saturated(row: Row, before: Row) -> _Checked:
    if (row["saturated"] or 0) < 0.5:
        return None

    return (
        *("BN506", "saturated-units", "warning"),
        f"{row['saturated']:.0%} of the outputs are where the slope is below 4 % of its largest",
        "Put a batch norm before it, or start with smaller weights",
        {"share": row["saturated"]},
    )


def _few(row: Row, before: Row) -> _Checked:
    """The variance of n values has a relative standard error of √(2/(n - 1)): half at n = 9."""
    worth = row["independent"]
    if worth is None or worth >= 9 or not row["training"]:
        return None

    return (
        *("BN507", "few-independent-samples", "info"),
        f"the batch is worth {worth:.1f} independent values per channel: its variance is known "
        "to less than a half",
        "Use a larger batch, SyncBatchNorm, BatchRenorm or accumulate",
        {"independent": worth},
    )
