"""All findings of one look at a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ..surgery import SurgeryReport
from ._finding import Finding
from ._place import Place
from .renderers import render_github, render_json, render_sarif, render_terminal

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
        places: path → the line of the user's own code that holds the layer.
        model: that was looked at, or that came of the fixes: the one to use from now on.

    Example:
        >>> print(Diagnosis([], rules=2))
        batchnorm doctor: nothing found; 2 rules looked
    """

    def __init__(
        self,
        findings: Sequence[Finding],
        skipped: Sequence[Skip] = (),
        fixed: Sequence[Fixed] = (),
        suppressed: int = 0,
        rules: int = 0,
        places: Mapping[str, Place | None] | None = None,
        model: nn.Module | None = None,
    ) -> None:
        self.findings = list(findings)
        self.skipped = list(skipped)
        self.fixed = list(fixed)
        self.suppressed = suppressed
        self.rules = rules
        self.places = dict(places or {})
        self.model = model
        # Where the model is made, for layers that no class of the user's holds.
        self.origin: Place | None = None

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

    def place_of(self, finding: Finding) -> Place | None:
        """The line of the user's own code that holds the layer, as near as can be told."""
        return self.places.get(finding.path) or self.origin

    def to_json(self) -> str:
        """One JSON object; see ``docs/doctor.md``."""
        return render_json(self)

    def to_sarif(self) -> str:
        """SARIF 2.1.0, for code scanning."""
        return render_sarif(self)

    def to_github(self) -> str:
        """Workflow commands that GitHub shows beside the code."""
        return render_github(self)

    def __str__(self) -> str:
        return render_terminal(self)

    def __repr__(self) -> str:
        return f"<Diagnosis {str(self).splitlines()[0]}>"
