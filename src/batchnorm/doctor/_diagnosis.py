"""All findings of one look at a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..surgery import SurgeryReport
from ._finding import Finding

__all__ = ["Diagnosis", "Fixed", "Skip"]


@dataclass(frozen=True)
class Skip:
    """A rule that was not run to its end.

    Args:
        code: of the rule.
        name: of the rule.
        reason: why.
        failed: the rule itself raised an error, which is a fault of the rule.
    """

    code: str
    name: str
    reason: str
    failed: bool = False


@dataclass(frozen=True)
class Fixed:
    """A fault that was cured.

    Args:
        finding: as it was.
        report: of the surgery, with the proof and the way back.
    """

    finding: Finding
    report: SurgeryReport


class Diagnosis:
    """What was found, by the rules' codes; iterating gives the findings.

    Args:
        findings: that are left.
        skipped: rules that could not look, with the reason.
        fixed: what ``fix=True`` cured, in order.
        suppressed: how many findings a ``batchnorm_ignore`` in the model silenced.
        rules: how many rules ran.

    Example:
        >>> print(Diagnosis([], rules=2))
        batchnorm doctor: nothing found, 2 rules
    """

    def __init__(
        self,
        findings: Sequence[Finding],
        skipped: Sequence[Skip] = (),
        fixed: Sequence[Fixed] = (),
        suppressed: int = 0,
        rules: int = 0,
    ) -> None:
        self.findings = list(findings)
        self.skipped = list(skipped)
        self.fixed = list(fixed)
        self.suppressed = suppressed
        self.rules = rules

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def codes(self) -> list[str]:
        """Codes that were found, each once."""
        return sorted({finding.code for finding in self.findings})

    @property
    def exit_code(self) -> int:
        """1 if there is an error or a warning, or a rule failed; else 0."""
        grave = any(finding.severity != "info" for finding in self.findings)

        return int(grave or any(skip.failed for skip in self.skipped))

    def undo(self) -> None:
        """Take back what ``fix=True`` did, last first."""
        while self.fixed:
            self.fixed[-1].report.undo()
            self.fixed.pop()

    def __str__(self) -> str:
        counts = dict.fromkeys(("error", "warning", "info"), 0)
        for finding in self.findings:
            counts[finding.severity] += 1
        found = ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)

        return f"batchnorm doctor: {found or 'nothing found'}, {self.rules} rules"

    def __repr__(self) -> str:
        return f"<Diagnosis {self}>"
