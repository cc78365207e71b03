"""Faults that show while training: rules over the rows of a step, and who is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import nn

from ._schema import Row

__all__ = ["Alert", "AlertWarning", "Alerts", "Found", "Moment", "Rule", "builtin"]

Severity = Literal["error", "warning", "info"]


class AlertWarning(UserWarning):
    """A fault that was seen while training."""


class Found(Protocol):
    """What a rule yields; the doctor's findings are such."""

    @property
    def code(self) -> str:
        """Of the rule."""

    @property
    def name(self) -> str:
        """Of the rule, in words."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""

    @property
    def path(self) -> str:
        """Dotted path of the layer."""

    @property
    def message(self) -> str:
        """What is there."""

    @property
    def remedy(self) -> str:
        """What to do."""

    @property
    def measured(self) -> Mapping[str, Any]:
        """The numbers by name."""


@dataclass(frozen=True)
class Alert:
    """One fault at one place at one step.

    Args:
        code: of the rule.
        name: of the rule, in words.
        severity: ``"error"``, ``"warning"`` or ``"info"``.
        path: dotted path of the layer.
        message: what is there, with the number that was measured.
        remedy: what to do, one line.
        measured: the numbers by name.
        step: when it was first seen.
    """

    code: str
    name: str
    severity: Severity
    path: str
    message: str
    remedy: str
    measured: dict[str, Any] = field(default_factory=dict)
    step: int = 0

    def __str__(self) -> str:
        return (
            f"step {self.step}, {self.path or '(model)'}: {self.code} {self.message}. "
            f"{self.remedy}."
        )


@dataclass(frozen=True)
class Moment:
    """What a rule can look at.

    Args:
        model: without wrappers; it must be left as it is.
        step: that was recorded.
        rows: of its layers, as in the file.
        before: path → the row that the layer had last.
        optimizers: of the training.
        batch: arguments of the step's forward; None where it was not seen.
    """

    model: nn.Module
    step: int
    rows: Sequence[Row]
    before: Mapping[str, Row]
    optimizers: Sequence[Any] = ()
    batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None


Rule = Callable[[Moment], Iterable[Found]]
"""``rule(moment)``: the faults at this moment. It is asked at every recorded step."""


class Alerts:
    """Asks rules, and tells each fault once until it is gone.

    Args:
        rules: to ask.
        tell: ``"warn"``: as :class:`AlertWarning`; a function: called with each alert; None: nobody
            is told, the recording has them.
    """

    def __init__(
        self, rules: Iterable[Rule], tell: Literal["warn"] | Callable[[Alert], object] | None
    ) -> None:
        self._rules, self._tell = list(rules), tell
        self._standing: set[tuple[str, str]] = set()
        self._before: dict[str, Row] = {}

    def ask(self, moment: Moment) -> list[Alert]:
        """New faults; one that goes on is not repeated."""
        alerts = [
            Alert(
                *(found.code, found.name, found.severity, found.path, found.message, found.remedy),
                measured=dict(found.measured),
                step=moment.step,
            )
            for rule in self._rules
            for found in rule(moment)
        ]
        new = [alert for alert in alerts if (alert.code, alert.path) not in self._standing]
        self._standing = {(alert.code, alert.path) for alert in alerts}

        return new

    def tell(self, alerts: Iterable[Alert]) -> None:
        """Pass them on. What a function raises goes to the training loop."""
        for alert in alerts:
            if callable(self._tell):
                self._tell(alert)
            elif self._tell == "warn":
                warnings.warn(str(alert), AlertWarning, stacklevel=2)


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
        return bool(errors and distance and errors > 5 and distance > 0.5 and one["training"])

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
