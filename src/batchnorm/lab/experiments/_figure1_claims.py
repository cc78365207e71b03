"""The claims that figure 1 of the paper makes, judged by what this run measured."""

import itertools
import math
from collections.abc import Mapping

from ..claims import Claim, Verdict, verdict
from ..summary import Estimate, estimate, ratio
from ..words import count, factor, interval, plus_minus, points, power, rate
from ._figure1_result import Agreement, ArmCurve, SweepRow, highest_rates

__all__ = ["claims"]

PAIRED = "holds if the whole 95 % interval over seeds (paired by seed) lies above"
Arms = Mapping[str, ArmCurve]


def claims(
    steps: int, sweep_steps: int, arms: Arms, rows: list[SweepRow], check: Agreement
) -> list[Claim]:
    """All claims with their verdicts."""
    return [
        _faster(steps, arms),
        _better(steps, arms),
        _higher_rate(sweep_steps, rows),
        _better_at_best(sweep_steps, rows),
        _steadier(
            "The middle of a sigmoid’s input moves less during training with batch norm.",
            "The median strays from where it ends by",
            "final 15–85 widths",
            arms["plain"].shift,
            arms["batchnorm"].shift,
        ),
        _steadier(
            "The width of a sigmoid’s input changes less during training with batch norm.",
            "The 15–85 width strays from its final value by",
            "doublings",
            arms["plain"].stretch,
            arms["batchnorm"].stretch,
        ),
        _same(check),
    ]


def _faster(steps: int, arms: Arms) -> Claim:
    plain, ours = arms["plain"], arms["batchnorm"]
    statement = "Batch norm reaches the accuracy that the plain network ends with in fewer steps."
    rule = f"{PAIRED} 1; undecided if some seeds never reach it, fails if none does"
    both = [(p, o) for p, o in zip(plain.reach, ours.reach, strict=True) if p and o]
    ends = f"The plain network ends at {plus_minus(plain.final)} after {count(steps)} steps."
    if len(both) < len(ours.reach):
        missed = f"Batch norm reaches that in {len(both)} of {len(ours.reach)} seeds."
        return Claim(statement, "undecided" if both else "fails", f"{ends} {missed}", rule)
    fewer = ratio([p / o for p, o in both])
    typical = ratio([float(o) for _, o in both])
    evidence = (
        f"{ends} Batch norm is there after {count(typical.mean)} steps (geometric mean; "
        f"{count(min(typical.values))} to {count(max(typical.values))} over seeds): "
        f"the plain network takes {factor(fewer.mean)} times as many, {interval(fewer)}."
    )
    return Claim(statement, verdict(fewer, 1), evidence, rule)


def _better(steps: int, arms: Arms) -> Claim:
    plain, ours = arms["plain"], arms["batchnorm"]
    gain = _difference(ours.final, plain.final)
    return Claim(
        "Batch norm ends with a higher test accuracy at the same learning rate.",
        verdict(gain, 0),
        f"After {count(steps)} steps: {plus_minus(ours.final)} with, {plus_minus(plain.final)} "
        f"without; {_gained(gain)}.",
        f"{PAIRED} 0",
    )


def _higher_rate(sweep_steps: int, rows: list[SweepRow]) -> Claim:
    plain, ours = (highest_rates(rows, arm) for arm in ("plain", "batchnorm"))
    statement = "Batch norm trains at higher learning rates."
    grid = sorted({row.lr for row in rows})
    step = max((b / a for a, b in itertools.pairwise(grid)), default=math.inf)
    rule = (
        f"{PAIRED} 1, widened by the grid’s factor {factor(step)}; undecided if an arm trains "
        "nowhere on the grid in some seed"
    )
    pairs = [(p, o) for p, o in zip(plain, ours, strict=True) if p and o]
    found = f"{_rates(plain, grid)} without, {_rates(ours, grid)} with, {count(sweep_steps)} steps."
    if len(pairs) < len(ours):
        return Claim(statement, "undecided", f"Highest rate that trains: {found}", rule)
    higher = ratio([o / p for p, o in pairs], grid=step)
    return Claim(
        statement,
        verdict(higher, 1),
        f"Highest rate that trains: {found} "
        f"The ratio is {factor(higher.mean)}, {interval(higher)}.",
        rule,
    )


def _rates(values: list[float | None], grid: list[float]) -> str:
    known = sorted({value for value in values if value})
    if not known:
        return "none of the grid"
    top = " or more (the grid ends there)" if known[-1] == grid[-1] else ""
    span = rate(known[0]) if len(known) == 1 else f"{rate(known[0])} to {rate(known[-1])}"
    absent = sum(value is None for value in values)
    return span + top + (f" ({absent} seeds: none)" if absent else "")


def _better_at_best(sweep_steps: int, rows: list[SweepRow]) -> Claim:
    best = {arm: _best(rows, arm) for arm in ("plain", "batchnorm")}
    gain = _difference(best["batchnorm"].accuracy, best["plain"].accuracy)
    return Claim(
        "Batch norm is ahead also when each network has its own best learning rate.",
        verdict(gain, 0),
        f"After {count(sweep_steps)} steps: {plus_minus(best['batchnorm'].accuracy)} with at rate "
        f"{rate(best['batchnorm'].lr)}, {plus_minus(best['plain'].accuracy)} without at "
        f"{rate(best['plain'].lr)}; {_gained(gain)}.",
        f"{PAIRED} 0; the best rate of each has the lowest training loss, test data not looked at",
    )


def _best(rows: list[SweepRow], arm: str) -> SweepRow:
    return min((row for row in rows if row.arm == arm), key=lambda row: row.loss)


def _steadier(statement: str, what: str, unit: str, plain: Estimate, ours: Estimate) -> Claim:
    rule = f"{PAIRED} 1; per seed the median over the last hidden layer’s units"
    if not all(0 < value < math.inf for value in (*plain.values, *ours.values)):
        return Claim(statement, "undecided", "A run did not stay finite or did not move.", rule)
    less = ratio([p / o for p, o in zip(plain.values, ours.values, strict=True)])
    return Claim(
        statement,
        verdict(less, 1),
        f"{what} {factor(plain.mean)} {unit} on average without batch norm, "
        f"{factor(ours.mean)} with: a ratio of {factor(less.mean)}, {interval(less)}.",
        rule,
    )


def _same(check: Agreement) -> Claim:
    ours, nudged = max(check.ours), max(check.nudged)
    held: Verdict = "holds" if ours <= 2 * nudged else "fails"
    return Claim(
        "Our layer and torch’s train alike to rounding.",
        held,
        f"Training losses differ by {power(check.ours[0])} of their value at step 1 and by at most "
        f"{power(ours)} over the first {len(check.ours)}; torch’s own by {power(nudged)} when its "
        f"starting weights move by one float32 rounding. Final test accuracy, ours minus torch’s: "
        f"{_gained(check.final)}.",
        "holds if the largest difference in any seed is at most twice that of the rounding",
    )


def _difference(a: Estimate, b: Estimate) -> Estimate:
    return estimate([x - y for x, y in zip(a.values, b.values, strict=True)])


def _gained(gain: Estimate) -> str:
    return f"difference {points(gain.mean)} points, {interval(gain, points)}"
