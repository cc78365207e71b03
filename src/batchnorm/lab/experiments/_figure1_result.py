"""What the trials of figure 1 add up to: curves, sweep and cross-check."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..claims import Claim
from ..data import Dataset
from ..environment import Environment
from ..models import ARMS
from ..summary import Estimate, estimate
from ..training import TrialResult as Run

if TYPE_CHECKING:
    from .figure1 import Config

__all__ = [
    "Agreement",
    "ArmCurve",
    "DatasetFacts",
    "Result",
    "Run",
    "SweepRow",
    "agreement",
    "arm_curves",
    "highest_rates",
    "sweep_rows",
]


@dataclass(frozen=True)
class DatasetFacts:
    """The dataset without its arrays; see :class:`batchnorm.lab.data.Dataset`."""

    name: str
    title: str
    preparation: str
    train: int
    test: int
    features: int
    classes: int
    constant_loss: float
    constant_accuracy: float
    digest: str

    @classmethod
    def of(cls, data: Dataset) -> "DatasetFacts":
        """The facts of a dataset."""
        return cls(
            data.name,
            data.title,
            data.preparation,
            len(data.x_train),
            len(data.x_test),
            data.features,
            data.classes,
            data.constant_loss,
            data.constant_accuracy,
            data.digest,
        )


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


@dataclass(frozen=True)
class Result:
    """The whole experiment; renderers read this and compute nothing that matters."""

    config: "Config"
    dataset: DatasetFacts
    arms: dict[str, ArmCurve]
    sweep: list[SweepRow]
    agreement: Agreement
    claims: list[Claim]
    environment: Environment
    trials: int
    reused: int
    seconds: float


def arm_curves(runs: Mapping[tuple[str, int], Run]) -> dict[str, ArmCurve]:
    """Summarise the curves of every arm, by its name."""
    seeds = sorted({seed for _, seed in runs})
    targets = [runs["plain", seed].accuracy[-1] for seed in seeds]
    return {name: _arm_curve(name, [runs[name, seed] for seed in seeds], targets) for name in ARMS}


def _arm_curve(name: str, runs: list[Run], targets: list[float]) -> ArmCurve:
    # A run that stopped at a loss that is not finite has fewer points: its last one stays.
    steps = max((run.steps for run in runs), key=len)
    rows = [run.accuracy + run.accuracy[-1:] * (len(steps) - len(run.steps)) for run in runs]
    return ArmCurve(
        name=name,
        label=ARMS[name].label,
        steps=steps,
        accuracy=[estimate(column) for column in zip(*rows, strict=True)],
        final=estimate([row[-1] for row in rows]),
        reach=[first_reach(run, target) for run, target in zip(runs, targets, strict=True)],
        percentiles=runs[0].percentiles,
        shift=estimate([run.shift for run in runs]),
        stretch=estimate([run.stretch for run in runs]),
        step_ms=float(np.median([1e3 * run.seconds / run.steps[-1] for run in runs])),
    )


def first_reach(run: Run, target: float) -> int | None:
    """The first evaluated step with at least the test accuracy `target`."""
    reached = (s for s, a in zip(run.steps, run.accuracy, strict=True) if a >= target)
    return next(reached, None)


def sweep_rows(runs: Mapping[tuple[str, float, int], Run], trains_below: float) -> list[SweepRow]:
    """Summarise the sweep: one row per arm and learning rate, in rising order."""
    keys = sorted({(arm, lr) for arm, lr, _ in runs}, key=lambda key: (key[1], key[0]))
    rows = []
    for arm, lr in keys:
        group = [run for (a, rate, _), run in sorted(runs.items()) if (a, rate) == (arm, lr)]
        rows.append(
            SweepRow(
                arm=arm,
                lr=lr,
                trains=[run.final_loss < trains_below for run in group],
                accuracy=estimate([run.accuracy[-1] if run.accuracy else 0.0 for run in group]),
                loss=float(np.mean([run.final_loss for run in group])),
            )
        )
    return rows


def highest_rates(rows: list[SweepRow], arm: str) -> list[float | None]:
    """Per seed, the highest learning rate of the grid at which the arm trains; None if at none."""
    mine = [row for row in rows if row.arm == arm]
    seeds = range(len(mine[0].trains))
    return [max((row.lr for row in mine if row.trains[s]), default=None) for s in seeds]


def agreement(curves: Mapping[tuple[str, int], Run], nudged: Mapping[int, Run]) -> Agreement:
    """Compare our layer with torch's, and torch's with itself after one rounding."""

    def difference(a: list[float], b: list[float]) -> list[float]:
        return [abs(x - y) / abs(y) if y else abs(x - y) for x, y in zip(a, b, strict=False)]

    def largest(rows: list[list[float]]) -> list[float]:
        return [max(column) for column in zip(*rows, strict=False)]

    torch_runs = {seed: curves["torch", seed] for seed in nudged}
    ours = {seed: curves["batchnorm", seed] for seed in nudged}
    return Agreement(
        ours=largest([difference(ours[s].losses, torch_runs[s].losses) for s in nudged]),
        nudged=largest([difference(run.losses, torch_runs[s].losses) for s, run in nudged.items()]),
        final=estimate([ours[s].accuracy[-1] - torch_runs[s].accuracy[-1] for s in nudged]),
    )
