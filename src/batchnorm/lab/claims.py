"""Claims and their verdicts: computed from an interval over seeds, never typed in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .summary import Estimate

__all__ = ["Claim", "Finding", "Verdict", "overall", "verdict", "within"]

Verdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Finding:
    """What one dataset says about a claim.

    Args:
        verdict: ``holds``, ``fails`` or ``undecided``.
        effect: the number that decides, with its interval over seeds.
        evidence: one or two sentences with the numbers.
        size: how far the effect is from what the rule compares it with, in standard deviations
            over seeds (for a difference compared with zero: Cohen's d of the pairs); inf without
            spread, NaN from one seed.
    """

    verdict: Verdict
    effect: Estimate
    evidence: str
    size: float = math.nan


@dataclass(frozen=True)
class Claim:
    """Something people say about batch norm, and what this run found.

    Args:
        statement: the claim, in words that could be wrong.
        verdict: ``holds``, ``fails`` or ``undecided``.
        evidence: one or two sentences with the numbers.
        rule: how the verdict follows from them.
        source: who says so.
        published: the number in the source.
        findings: by dataset.
    """

    statement: str
    verdict: Verdict
    evidence: str
    rule: str
    source: str = ""
    published: str = ""
    findings: Mapping[str, Finding] = field(default_factory=dict)


def verdict(found: Estimate, threshold: float) -> Verdict:
    """``holds`` when the whole interval lies above `threshold`, ``fails`` when it lies below.

    Anything else is ``undecided``, also a single seed, whose interval is endless.
    """
    if not math.isfinite(found.mean):
        return "undecided"
    if found.low > threshold:
        return "holds"
    return "fails" if found.high < threshold else "undecided"


def within(found: Estimate, low: float, high: float) -> Verdict:
    """``holds`` when the whole interval lies between the bounds, ``fails`` when it lies outside.

    For claims that something makes no difference: a difference that was not found is no proof that
    there is none. Anything else is ``undecided``.

    Source: Schuirmann 1987, two one-sided tests.
    """
    if not math.isfinite(found.mean):
        return "undecided"
    if low < found.low and found.high < high:
        return "holds"
    return "fails" if found.low > high or found.high < low else "undecided"


def overall(findings: Mapping[str, Finding]) -> Verdict:
    """The verdict that all datasets agree on, else ``undecided``."""
    verdicts = {finding.verdict for finding in findings.values()}

    return verdicts.pop() if len(verdicts) == 1 else "undecided"
