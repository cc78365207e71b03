"""What the trials of figure 1 add up to: curves, sweep and cross-check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import polars as pl

from .._rules import differences, values
from ..models import ARMS
from ..summary import Estimate, estimate

__all__ = [
    "Agreement",
    "ArmCurve",
    "SweepRow",
    "agreement",
    "arm_curves",
    "first_reach",
    "highest_rates",
    "sweep_rows",
]

Run = Mapping[str, Any]  # a trial's row


@dataclass(frozen=True)
class ArmCurve:
    """One arm over its seeds.

    Args:
        name: key of :data:`batchnorm.lab.models.ARMS`.
        label: its name in tables.
        steps: evaluated steps.
        accuracy: at each of them, an estimate over seeds of the test accuracy.
        final: test accuracy after the last step.
        reach: per seed, the first evaluated step at which the arm had at least the accuracy that
            the same seed's plain network ends with; None if it never had.
        percentiles: at each of `steps`, 15/50/85th percentile of the first unit's input, seed 0.
        shift: see :class:`batchnorm.lab.training.TrialResult`.
        stretch: likewise.
        step_ms: processor time (ms) per step, evaluations included, median over seeds.
    """

    name: str
    label: str
    steps: list[int]
    accuracy: list[Estimate]
    final: Estimate
    reach: list[int | None]
    percentiles: list[list[float]]
    shift: Estimate
    stretch: Estimate
    step_ms: float


@dataclass(frozen=True)
class SweepRow:
    """One arm at one learning rate of the sweep.

    Args:
        arm: key of :data:`batchnorm.lab.models.ARMS`.
        lr: learning rate.
        trains: per seed, whether the run trained: the mean training loss of its last tenth is
            below half of what a constant prediction reaches.
        accuracy: test accuracy after the sweep's steps.
        loss: mean over seeds of that training loss (nats).
    """

    arm: str
    lr: float
    trains: list[bool]
    accuracy: Estimate
    loss: float


@dataclass(frozen=True)
class Agreement:
    """Our layer against torch's, from the same weights on the same batches.

    Args:
        ours: at each early step, the largest relative difference over seeds between the training
            losses with our layer and with torch's.
        nudged: the same between torch's layer and torch's layer with every starting weight moved to
            the next float32: how far a rounding alone carries.
        final: test accuracy with ours minus with torch's after the last step, by seed.
    """

    ours: list[float]
    nudged: list[float]
    final: Estimate


def arm_curves(frame: pl.DataFrame) -> dict[str, ArmCurve]:
    """Summarise the curves of every arm, by its name.

    Args:
        frame: a row per arm and seed.
    """
    runs = {
        name: frame.filter(arm=name).sort("seed").rows(named=True) for name in frame["arm"].unique()
    }
    targets = [run["accuracy"] for run in runs["plain"]]

    return {name: _arm_curve(name, runs[name], targets) for name in ARMS if name in runs}


def _arm_curve(name: str, runs: Sequence[Run], targets: Sequence[float]) -> ArmCurve:
    # A run that stopped at a loss that is not finite has fewer points: its last one stays.
    steps = max((run["at"] for run in runs), key=len)
    rows = [
        run["accuracies"] + [run["accuracy"]] * (len(steps) - len(run["accuracies"]))
        for run in runs
    ]
    return ArmCurve(
        name=name,
        label=ARMS[name].label,
        steps=steps,
        accuracy=[estimate(column) for column in zip(*rows, strict=True)],
        final=estimate([run["accuracy"] for run in runs]),
        reach=[first_reach(run, target) for run, target in zip(runs, targets, strict=True)],
        percentiles=runs[0]["percentiles"],
        shift=estimate([run["shift"] for run in runs]),
        stretch=estimate([run["stretch"] for run in runs]),
        step_ms=median(run["step_ms"] for run in runs),
    )


def first_reach(run: Run, target: float) -> int | None:
    """The first evaluated step with at least the test accuracy `target`."""
    reached = (s for s, a in zip(run["at"], run["accuracies"], strict=True) if a >= target)
    return next(reached, None)


def sweep_rows(frame: pl.DataFrame) -> list[SweepRow]:
    """Summarise the sweep: one row per arm and learning rate, in rising order.

    Args:
        frame: a row per arm, learning rate and seed.
    """
    return [
        SweepRow(
            arm=str(arm),
            lr=float(lr),
            trains=[bool(t) for t in values(frame, "trains", str(arm), lr=lr)],
            accuracy=estimate(values(frame, "accuracy", str(arm), lr=lr)),
            loss=fmean(values(frame, "loss", str(arm), lr=lr)),
        )
        for lr, arm in frame.select("lr", "arm").unique().sort("lr", "arm").iter_rows()
    ]


def highest_rates(rows: list[SweepRow], arm: str) -> list[float | None]:
    """Per seed, the highest learning rate of the grid at which the arm trains; None if at none."""
    mine = [row for row in rows if row.arm == arm]
    seeds = range(len(mine[0].trains))
    return [max((row.lr for row in mine if row.trains[s]), default=None) for s in seeds]


def agreement(frame: pl.DataFrame) -> Agreement:
    """Compare our layer with torch's, and torch's with itself after one rounding.

    Args:
        frame: a row per arm and seed.
    """
    ours, torchs = (
        frame.filter(arm=arm).sort("seed").rows(named=True) for arm in ("batchnorm", "torch")
    )
    return Agreement(
        ours=_largest([run["losses"] for run in ours], [run["losses"] for run in torchs]),
        nudged=_largest([run["nudged"] for run in torchs], [run["losses"] for run in torchs]),
        final=differences(frame, "accuracy", "batchnorm", "torch"),
    )


def _largest(runs: Sequence[list[float]], others: Sequence[list[float]]) -> list[float]:
    """At each step the largest relative difference over seeds."""
    gaps = [
        [abs(x - y) / abs(y) if y else abs(x - y) for x, y in zip(a, b, strict=False)]
        for a, b in zip(runs, others, strict=True)
    ]

    return [max(column) for column in zip(*gaps, strict=False)]
