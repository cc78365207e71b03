"""Cures, one finding at a time, until nothing is left that can be cured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._context import Context
from ._diagnosis import Fixed, Skip
from ._examine import examine
from ._rule import Rule

__all__ = ["cure"]


def cure(look: Callable[[], Context], rules: Sequence[Rule]) -> tuple[list[Fixed], list[Skip]]:
    """Fix what can be fixed.

    Args:
        look: a fresh view of the model, which each fix changes.
        rules: that may look; those without a fix are left out.

    Returns:
        What was done, and what went wrong.
    """
    fixing = {rule.code: rule for rule in rules if rule.fixable}
    fixed: list[Fixed] = []
    failures: list[Skip] = []
    tried: set[tuple[str, str]] = set()
    while True:
        context = look()
        todo = [
            finding
            for finding in examine(context, fixing.values())
            if finding.fixable and (finding.code, finding.path) not in tried
        ]
        if not todo:
            return fixed, failures
        finding = todo[0]
        tried.add((finding.code, finding.path))
        rule = fixing[finding.code]
        try:
            fixed.append(Fixed(finding, rule.fix(context, finding)))
        except Exception as error:
            where = finding.path or "the model"
            reason = f"{where} could not be fixed: {error}"
            failures.append(Skip(rule.code, rule.name, reason, failed=True))
