"""The demo: figure 1 of the paper and a sweep over learning rates, as one result."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ._experiment import Experiment, Grid
from ._runner import run as run_experiments
from .claims import Claim
from .data import Dataset
from .environment import Environment
from .experiments._figure1_claims import SWEEP_QUESTIONS
from .experiments._figure1_result import (
    Agreement,
    ArmCurve,
    SweepRow,
    agreement,
    arm_curves,
    sweep_rows,
)
from .experiments.figure1 import EXPERIMENT, LR
from .training import load_flat

__all__ = ["Config", "DatasetFacts", "Result", "experiments", "run"]

DEFAULT_STEPS: Mapping[str, int] = {"digits": 5000, "mnist": 3000}
LEARNING_RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SWEEP_ARMS = ("plain", "batchnorm")


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        dataset: key of :data:`DEFAULT_STEPS`.
        seeds: how many; each arm runs with seeds 0, 1, ...
        steps: minibatches of each training curve; None for the dataset's default.
        lr: learning rate of the curves; the paper gives none.
        learning_rates: the grid of the sweep, rising.
        sweep_share: the sweep's runs have this share of `steps`.
        evaluations: evenly spaced tests along a curve.
        early_losses: training losses that the cross-check compares.
        batch_size: examples per minibatch.
        hidden: width of each of the three hidden layers.
        weight_std: standard deviation of the starting weights; the paper says "small".
    """

    dataset: str = "digits"
    seeds: int = 5
    steps: int | None = None
    lr: float = LR
    learning_rates: tuple[float, ...] = LEARNING_RATES
    sweep_share: float = 0.2
    evaluations: int = 25
    early_losses: int = 200
    batch_size: int = 60
    hidden: int = 100
    weight_std: float = 0.1

    def __post_init__(self) -> None:
        for name in ("seeds", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"demo: {name} must be at least 1. Got {name}={value}. "
                    f"Use {name} ≥ 1, or leave it out."
                )

    @property
    def curve_steps(self) -> int:
        """Minibatches of each training curve."""
        return DEFAULT_STEPS[self.dataset] if self.steps is None else self.steps

    @property
    def sweep_steps(self) -> int:
        """Minibatches of each run of the sweep."""
        return max(1, round(self.curve_steps * self.sweep_share))


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
class Result:
    """The whole demo; renderers read this and compute nothing that matters."""

    config: Config
    dataset: DatasetFacts
    arms: dict[str, ArmCurve]
    sweep: list[SweepRow]
    agreement: Agreement
    claims: list[Claim]
    environment: Environment
    trials: int
    reused: int
    seconds: float


def experiments(config: Config) -> tuple[Experiment, Experiment]:
    """Curves, and the sweep of two arms over learning rates."""

    def grid(lrs: tuple[float, ...], **settings: int) -> Grid:
        shared = {
            "batch_size": config.batch_size,
            "hidden": config.hidden,
            "weight_std": config.weight_std,
            "early_losses": config.early_losses,
        }
        single = {name: (value,) for name, value in (settings | shared).items()}
        return Grid(config.seeds, (config.dataset,), {"lr": lrs, **single}, 0)

    curves = grid((config.lr,), steps=config.curve_steps, evaluations=config.evaluations)
    sweep = grid(config.learning_rates, steps=config.sweep_steps, evaluations=1)

    return (
        replace(EXPERIMENT, budgets={"default": curves}),
        replace(
            EXPERIMENT,
            name="sweep",
            arms={name: EXPERIMENT.arms[name] for name in SWEEP_ARMS},
            budgets={"default": sweep},
            questions=SWEEP_QUESTIONS,
        ),
    )


def run(
    config: Config,
    out: Path,
    *,
    folder: Path | None = None,
    jobs: int | None = None,
    resume: bool = True,
    started: Callable[[Experiment, float, float], None] = lambda *_: None,
    done: Callable[[float], None] = lambda _: None,
) -> Result:
    """Run the trials that `out` lacks and make the result from all of them.

    Args:
        config: what to run.
        out: finished trials are kept in its folder ``trials``.
        folder: where the data files lie.
        jobs: processes; all cores by default.
        resume: False runs every trial again.
        started: called for each of the two experiments with its steps and those already done.
        done: called after each trial with its steps.
    """
    clock = time.perf_counter()
    data = load_flat(config.dataset, folder)
    curves, sweep = run_experiments(
        experiments(config),
        data=folder,
        out=out,
        jobs=jobs,
        resume=resume,
        started=started,
        done=done,
    )
    # In the order of the report: what a curve says, what the sweep says, the insides.
    claims = [*curves.claims[:2], *sweep.claims, *curves.claims[2:]]

    return Result(
        config=config,
        dataset=DatasetFacts.of(data),
        arms=arm_curves(curves.trials),
        sweep=sweep_rows(sweep.trials),
        agreement=agreement(curves.trials),
        claims=claims,
        environment=curves.environment,
        trials=len(curves.trials) + len(sweep.trials),
        reused=curves.reused + sweep.reused,
        seconds=time.perf_counter() - clock,
    )
