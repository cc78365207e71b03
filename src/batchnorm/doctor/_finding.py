"""What a rule says about one place in a model."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One fault at one place.

    Args:
        code: of the rule: ``"BN001"``.
        name: of the rule: ``"redundant-bias"``.
        severity: ``"error"``: results are wrong; ``"warning"``: training or inference suffers;
            ``"info"``: worth knowing, and does not count in the exit code.
        path: dotted path of the module; ``""`` is the model itself.
        message: what is there, with the number that was measured.
        measured: the numbers by name: plain ints, floats, strings and lists of them.
        remedy: what to do, one line.
        fixable: whether the rule can do it.

    Example:
        >>> print(Finding("BN001", "redundant-bias", "warning", "conv", "a bias", "Drop it"))
        conv: BN001 a bias. Drop it.
    """

    code: str
    name: str
    severity: Severity
    path: str
    message: str
    remedy: str
    measured: dict[str, Any] = field(default_factory=dict)
    fixable: bool = False

    def __str__(self) -> str:
        return f"{self.path or '(model)'}: {self.code} {self.message}. {self.remedy}."
