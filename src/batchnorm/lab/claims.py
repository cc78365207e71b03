"""Claims and their verdicts: computed from an interval over seeds, never typed in."""

import math
from dataclasses import dataclass
from typing import Literal

from .summary import Estimate

__all__ = ["Claim", "Verdict", "verdict"]

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Claim:
    """Something people say about batch norm, and what this run found.

    Args:
        statement: the claim, in words that could be wrong.
        verdict: ``holds``, ``fails`` or ``undecided``.
        evidence: one or two sentences with the numbers.
        rule: how the verdict follows from them.
    """

    statement: str
    verdict: Verdict
    evidence: str
    rule: str


def verdict(found: Estimate, threshold: float) -> Verdict:
    """``holds`` when the whole interval lies above `threshold`, ``fails`` when it lies below.

    Anything else is ``undecided``, also a single seed, whose interval is endless.
    """
    if not math.isfinite(found.mean):
        return "undecided"
    if found.low > threshold:
        return "holds"
    return "fails" if found.high < threshold else "undecided"
