"""For people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._diagnosis import Diagnosis
    from .._finding import Finding

__all__ = ["render"]

_COLORS = {"error": "31", "warning": "33", "info": "36"}
_NARROWEST = 40


def render(diagnosis: Diagnosis, *, color: bool = False, width: int = 100) -> str:
    """A table of findings, what was fixed, and which rules could not look.

    Args:
        diagnosis: what to show.
        color: with ANSI colors.
        width: of the lines, in characters.
    """
    lines = [_summary(diagnosis)]
    lines += _table(diagnosis.findings, color, width)
    if any(finding.fixable for finding in diagnosis.findings):
        lines.append("* can be fixed: --fix, or fix=True")
    for fixed in diagnosis.fixed:
        lines.append(f"fixed {fixed.finding.path or '(model)'}: {fixed.finding.code}")
        lines += [f"  {proof}" for proof in fixed.report.proofs]
    lines += _skips(diagnosis)
    if diagnosis.suppressed:
        lines.append(f"silenced by batchnorm_ignore: {diagnosis.suppressed}")

    return "\n".join(lines)


def _summary(diagnosis: Diagnosis) -> str:
    counts = dict.fromkeys(_COLORS, 0)
    for finding in diagnosis.findings:
        counts[finding.severity] += 1
    found = ", ".join(_count(count, severity) for severity, count in counts.items() if count)
    looked = _count(diagnosis.rules, "rule")

    return f"batchnorm doctor: {found or 'nothing found'}; {looked} looked"


def _count(count: int, what: str) -> str:
    plural = "s" if count != 1 and what != "info" else ""

    return f"{count} {what}{plural}"


def _table(findings: Sequence[Finding], color: bool, width: int) -> list[str]:
    rows = [(f.path or "(model)", f"{f.code}{'*' * f.fixable}", f.severity) for f in findings]
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=True)]
    indent = sum(widths) + 2 * len(widths)

    lines: list[str] = []
    for finding, cells in zip(findings, rows, strict=True):
        head = [cell.ljust(size) for cell, size in zip(cells, widths, strict=True)]
        if color:
            head[2] = f"\033[{_COLORS[finding.severity]}m{head[2]}\033[0m"
        text = f"{finding.message}. {finding.remedy}."
        first, *rest = textwrap.wrap(text, max(width - indent, _NARROWEST))
        lines += ["  ".join([*head, first]), *(" " * indent + line for line in rest)]

    return lines


def _skips(diagnosis: Diagnosis) -> list[str]:
    """One line per reason."""
    reasons: dict[str, list[str]] = {}
    for skip in diagnosis.skipped:
        reasons.setdefault(skip.reason, []).append(skip.code)

    return [f"did not look: {', '.join(codes)}: {reason}" for reason, codes in reasons.items()]
