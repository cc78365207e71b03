"""Faults that show while training: what rules look at, and who is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import nn

from ._schema import Row

__all__ = ["Alert", "AlertWarning", "Alerts", "Found", "Moment", "Rule", "Severity"]

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
