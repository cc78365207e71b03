"""Rules: from the trials of two arms to a finding."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from .claims import Finding, Verdict, verdict, within
from .summary import Estimate, difference, estimate, ratio
from .words import interval

__all__ = ["above", "at_best", "below", "between", "differences", "highest", "ratios", "values"]


def values(frame: pl.DataFrame, measured: str, arm: str, **settings: Any) -> list[float]:
    """What the trials of one arm measured, seed by seed; several of one seed are averaged.

    Args:
        frame: a row per trial, as a question's ``judge`` gets it.
        measured: a column of numbers.
        arm: which.
        settings: columns that must have these values.

    Raises:
        ValueError: no such trial.
    """
    chosen = frame.filter(pl.col("arm") == arm, **settings)
    means = chosen.group_by("seed").agg(pl.col(measured).mean()).sort("seed")
    if means.is_empty():
        raise ValueError(
            f"values: the trials must hold what is asked for. Got none of arm {arm!r} with "
            f"{settings}. Use an arm and settings of the experiment."
        )

    return [float(value) for value in means[measured].to_list()]


def differences(
    frame: pl.DataFrame, measured: str, arm: str, other: str, **settings: Any
) -> Estimate:
    """`arm` minus `other`, each pair of one seed."""
    mine, theirs = (values(frame, measured, name, **settings) for name in (arm, other))

    return difference(mine, theirs)


def ratios(frame: pl.DataFrame, measured: str, arm: str, other: str, **settings: Any) -> Estimate:
    """`arm` over `other`, each pair of one seed; the mean is geometric."""
    mine, theirs = (values(frame, measured, name, **settings) for name in (arm, other))

    return ratio([a / b if b else math.nan for a, b in zip(mine, theirs, strict=True)])


def at_best(frame: pl.DataFrame, setting: str, by: str, per: Sequence[str] = ()) -> pl.DataFrame:
    """The trials of each arm at the value of one setting that suits it best.

    That is the value with the lowest mean of `by`; a mean that is not finite comes last, of two
    alike the lower value is taken.

    Args:
        frame: a row per trial.
        setting: what is chosen, such as a learning rate.
        by: a column of numbers; the training loss, as long as the test data is there to judge.
        per: other settings: each of their values has a choice of its own.

    Example:
        >>> trials = {"arm": ["a", "a", "b"], "lr": [0.1, 1.0, 1.0], "loss": [2.0, 1.0, 3.0]}
        >>> at_best(pl.DataFrame(trials), "lr", "loss")["lr"].to_list()
        [1.0, 1.0]
    """
    alike = ["arm", *per]
    means = frame.group_by(*alike, setting).agg(pl.col(by).mean().fill_nan(math.inf))
    best = means.sort(by, setting).unique(alike, keep="first", maintain_order=True)

    return frame.join(best, on=[*alike, setting], how="semi")


def highest(frame: pl.DataFrame, setting: str, arm: str, met: pl.Expr) -> list[float | None]:
    """Seed by seed the highest value of a setting at which a condition is met; None if at none.

    Args:
        frame: a row per trial.
        setting: such as a learning rate.
        arm: which.
        met: the condition on a trial.
    """
    seeds = frame.filter(arm=arm).group_by("seed").agg(pl.col(setting).filter(met).max())

    return [None if value is None else float(value) for value in seeds.sort("seed")[setting]]


def above(
    found: Estimate, threshold: float, text: str, write: Callable[[float], str] = "{:.3g}".format
) -> Finding:
    """Holds when the whole interval lies above `threshold`, fails when it lies below.

    Args:
        found: the number that decides.
        threshold: which it should exceed.
        text: what the number is: ``"{} points more with batch norm"``.
        write: the number in words.
    """
    return _finding(verdict(found, threshold), found, text, write, threshold)


def below(
    found: Estimate, threshold: float, text: str, write: Callable[[float], str] = "{:.3g}".format
) -> Finding:
    """Holds when the whole interval lies below `threshold`, fails when it lies above."""
    turned: dict[Verdict, Verdict] = {"holds": "fails", "fails": "holds"}
    decided = verdict(found, threshold)

    return _finding(turned.get(decided, decided), found, text, write, threshold)


def between(
    found: Estimate,
    low: float,
    high: float,
    text: str,
    write: Callable[[float], str] = "{:.3g}".format,
) -> Finding:
    """Holds when the whole interval lies between the bounds, fails when it lies outside."""
    return _finding(within(found, low, high), found, text, write, (low + high) / 2)


def _finding(
    decided: Verdict,
    found: Estimate,
    text: str,
    write: Callable[[float], str],
    middle: float,
) -> Finding:
    def written(value: float) -> str:
        return write(value).replace("-", "−")

    evidence = f"{text.format(written(found.mean))} ({interval(found, written)})"

    return Finding(decided, found, evidence, _size(found.values, middle))


def _size(numbers: Sequence[float], middle: float) -> float:
    """Distance of the mean from what the rule compares it with, in standard deviations."""
    found = estimate(numbers)
    distance = found.mean - middle
    if found.count < 2 or not math.isfinite(distance):
        return math.nan
    if not distance:
        return 0.0

    return distance / found.spread if found.spread else math.copysign(math.inf, distance)
