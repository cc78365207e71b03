"""The claims that figure 1 of the paper makes, judged by what the trials measured."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import polars as pl

from .._experiment import Question
from .._rules import above
from ..claims import Finding
from ..summary import Estimate, estimate, ratio
from ..words import count, factor, interval, plus_minus, points, power, rate
from ._figure1_result import (
    Agreement,
    ArmCurve,
    SweepRow,
    agreement,
    arm_curves,
    highest_rates,
    sweep_rows,
)

__all__ = ["QUESTIONS", "SWEEP_QUESTIONS"]

PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
PAIRED = "holds if the whole 95 % interval over seeds (paired by seed) lies above"
NOTHING = estimate([math.nan])
Arms = Mapping[str, ArmCurve]


def faster(arms: Arms) -> Finding:
    """Judge the steps to the accuracy that the plain network ends with."""
    plain, ours = arms["plain"], arms["batchnorm"]
    both = [(p, o) for p, o in zip(plain.reach, ours.reach, strict=True) if p and o]
    ends = (
        f"the plain network ends at {plus_minus(plain.final)} after {count(plain.steps[-1])} steps"
    )
    if len(both) < len(ours.reach):
        missed = f"batch norm reaches that in {len(both)} of {len(ours.reach)} seeds"
        return Finding("undecided" if both else "fails", NOTHING, f"{ends}; {missed}")
    typical = ratio([float(o) for _, o in both])

    return _told(
        ratio([p / o for p, o in both]),
        1.0,
        f"{ends}; batch norm is there after {count(typical.mean)} (geometric mean; "
        f"{count(min(typical.values))} to {count(max(typical.values))} over seeds): "
        "the plain network takes {} times as many, {}",
    )


def better(arms: Arms) -> Finding:
    """Judge the accuracy at the end."""
    plain, ours = arms["plain"], arms["batchnorm"]

    return _gained(
        _difference(ours.final, plain.final),
        f"after {count(plain.steps[-1])} steps {plus_minus(ours.final)} with, "
        f"{plus_minus(plain.final)} without",
    )


def higher_rate(rows: list[SweepRow]) -> Finding:
    """Judge the highest learning rate that trains, as far as the grid tells."""
    plain, ours = (highest_rates(rows, arm) for arm in ("plain", "batchnorm"))
    grid = sorted({row.lr for row in rows})
    step = max((b / a for a, b in itertools.pairwise(grid)), default=math.inf)
    pairs = [(p, o) for p, o in zip(plain, ours, strict=True) if p and o]
    found = f"{_rates(plain, grid)} without, {_rates(ours, grid)} with"
    if len(pairs) < len(ours):
        return Finding("undecided", NOTHING, f"highest rate that trains: {found}")
    higher = ratio([o / p for p, o in pairs], grid=step)

    return _told(higher, 1.0, f"highest rate that trains: {found}; the ratio is {{}}, {{}}")


def _rates(values: list[float | None], grid: list[float]) -> str:
    known = sorted({value for value in values if value})
    if not known:
        return "none of the grid"
    top = " or more (the grid ends there)" if known[-1] == grid[-1] else ""
    span = rate(known[0]) if len(known) == 1 else f"{rate(known[0])} to {rate(known[-1])}"
    absent = sum(value is None for value in values)
    return span + top + (f" ({absent} seeds: none)" if absent else "")


def better_at_best(rows: list[SweepRow]) -> Finding:
    """Judge the accuracy at the rate with the lowest training loss of each."""
    plain, ours = (
        min((row for row in rows if row.arm == arm), key=lambda row: row.loss)
        for arm in ("plain", "batchnorm")
    )

    return _gained(
        _difference(ours.accuracy, plain.accuracy),
        f"{plus_minus(ours.accuracy)} with at rate {rate(ours.lr)}, "
        f"{plus_minus(plain.accuracy)} without at {rate(plain.lr)}",
    )


def steadier(plain: Estimate, ours: Estimate, what: str, unit: str) -> Finding:
    """Judge how much less something moves."""
    if not all(0 < value < math.inf for value in (*plain.values, *ours.values)):
        return Finding("undecided", NOTHING, "a run did not stay finite or did not move")

    return _told(
        ratio([p / o for p, o in zip(plain.values, ours.values, strict=True)]),
        1.0,
        f"{what} {factor(plain.mean)} {unit} on average without batch norm, {factor(ours.mean)} "
        "with: a ratio of {}, {}",
    )


def same(check: Agreement) -> Finding:
    """Judge whether our layer differs from torch's by more than a rounding does."""
    ours, nudged = max(check.ours), max(check.nudged)
    final = f"{points(check.final.mean)} points, {interval(check.final, points)}"

    return Finding(
        "holds" if ours <= 2 * nudged else "fails",
        check.final,
        f"training losses differ by {power(check.ours[0])} of their value at step 1 and by at most "
        f"{power(ours)} over the first {len(check.ours)}; torch’s own by {power(nudged)} when its "
        f"starting weights move by one float32 rounding; final test accuracy, ours minus torch’s: "
        f"{final}",
    )


def _told(found: Estimate, threshold: float, text: str) -> Finding:
    """Above the threshold or not, in a sentence with places for the mean and the interval."""
    told = text.format(factor(found.mean), interval(found))

    return replace(above(found, threshold, "{}"), evidence=told)


def _gained(gain: Estimate, text: str) -> Finding:
    told = f"{text}; difference {points(gain.mean)} points, {interval(gain, points)}"

    return replace(above(gain, 0.0, "{}"), evidence=told)


def _difference(a: Estimate, b: Estimate) -> Estimate:
    return estimate([x - y for x, y in zip(a.values, b.values, strict=True)])


def _steadier(frame: pl.DataFrame, measured: str, what: str, unit: str) -> Finding:
    arms = arm_curves(frame)
    plain, ours = (getattr(arms[name], measured) for name in ("plain", "batchnorm"))

    return steadier(plain, ours, what, unit)


QUESTIONS = (
    Question(
        "Batch norm reaches the accuracy that the plain network ends with in fewer steps.",
        PAPER.format("section 4.1, figure 1a"),
        f"{PAIRED} 1; undecided if some seeds never reach it, fails if none does",
        lambda frame: faster(arm_curves(frame)),
    ),
    Question(
        "Batch norm ends with a higher test accuracy at the same learning rate.",
        PAPER.format("section 4.1, figure 1a"),
        f"{PAIRED} 0",
        lambda frame: better(arm_curves(frame)),
    ),
    Question(
        "The middle of a sigmoid’s input moves less during training with batch norm.",
        PAPER.format("section 4.1, figure 1b and c"),
        f"{PAIRED} 1; per seed the median over the last hidden layer’s units",
        partial(
            _steadier,
            measured="shift",
            what="the median strays from where it ends by",
            unit="final 15–85 widths",
        ),
    ),
    Question(
        "The width of a sigmoid’s input changes less during training with batch norm.",
        PAPER.format("section 4.1, figure 1b and c"),
        f"{PAIRED} 1; per seed the median over the last hidden layer’s units",
        partial(
            _steadier,
            measured="stretch",
            what="the 15–85 width strays from its final value by",
            unit="doublings",
        ),
    ),
    Question(
        "Our layer and torch’s train alike to rounding.",
        "torch’s BatchNorm1d, "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html",
        "holds if the largest difference in any seed is at most twice that of the rounding",
        lambda frame: same(agreement(frame)),
    ),
)
"""About curves: a row per arm and seed."""

SWEEP_QUESTIONS = (
    Question(
        "Batch norm trains at higher learning rates.",
        PAPER.format("section 3.3"),
        f"{PAIRED} 1, widened by a step of the grid at each end; undecided if an arm trains "
        "nowhere on the grid in some seed",
        lambda frame: higher_rate(sweep_rows(frame)),
    ),
    Question(
        "Batch norm is ahead also when each network has its own best learning rate.",
        PAPER.format("section 4.1"),
        f"{PAIRED} 0; the best rate of each has the lowest training loss, test data not looked at",
        lambda frame: better_at_best(sweep_rows(frame)),
    ),
)
"""About a sweep: a row per arm, learning rate and seed."""
