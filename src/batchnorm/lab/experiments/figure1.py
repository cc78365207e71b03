"""Figure 1 of the batch norm paper: a deep sigmoid network with and without batch norm.

Source: Ioffe & Szegedy 2015, section 4.1 (arXiv:1502.03167).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..environment import environment
from ..models import ARMS
from ..parallel import run_all
from ..store import TrialStore
from ..training import TrialConfig, TrialResult, load_flat, run_trial
from ._figure1_claims import claims
from ._figure1_result import (
    DatasetFacts,
    Result,
    Run,
    agreement,
    arm_curves,
    sweep_rows,
)

__all__ = ["Config", "Plan", "Result", "plan", "run"]

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
    lr: float = 0.1
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
                    f"figure1: {name} must be at least 1. Got {name}={value}. "
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
class Plan:
    """The trials of a configuration.

    Args:
        curves: by arm and seed.
        nudged: torch's arm again, its weights moved by one rounding, by seed.
        sweep: by arm, learning rate and seed.
    """

    curves: Mapping[tuple[str, int], TrialConfig]
    nudged: Mapping[int, TrialConfig]
    sweep: Mapping[tuple[str, float, int], TrialConfig]

    @property
    def trials(self) -> list[TrialConfig]:
        """All of them, the longest first so that no process waits for the last one."""
        every = (*self.curves.values(), *self.nudged.values(), *self.sweep.values())
        return sorted(every, key=lambda trial: -trial.steps)


def plan(config: Config, digest: str) -> Plan:
    """The trials that `config` needs on the data with this digest."""
    early = min(config.early_losses, config.curve_steps)
    curve = partial(
        TrialConfig,
        dataset=config.dataset,
        digest=digest,
        lr=config.lr,
        steps=config.curve_steps,
        evaluations=min(config.evaluations, config.curve_steps),
        early_losses=early,
        batch_size=config.batch_size,
        hidden=config.hidden,
        weight_std=config.weight_std,
    )
    probe = partial(curve, steps=config.sweep_steps, evaluations=1, early_losses=0)
    seeds = range(config.seeds)
    return Plan(
        curves={(arm, seed): curve(arm=arm, seed=seed) for seed in seeds for arm in ARMS},
        nudged={
            seed: curve(arm="torch", seed=seed, steps=early, evaluations=1, nudged=True)
            for seed in seeds
        },
        sweep={
            (arm, lr, seed): probe(arm=arm, lr=lr, seed=seed)
            for arm in SWEEP_ARMS
            for lr in config.learning_rates
            for seed in seeds
        },
    )


def run(
    config: Config,
    store: TrialStore,
    *,
    folder: Path | None = None,
    jobs: int = 1,
    resume: bool = True,
    started: Callable[[int, int], None] = lambda _total, _done: None,
    done: Callable[[TrialConfig], None] = lambda _: None,
) -> Result:
    """Run the trials that `store` lacks and make the result from all of them.

    Args:
        config: what to run.
        store: finished trials.
        folder: where the data files lie.
        jobs: processes.
        resume: False runs every trial again.
        started: called once with the steps of all trials and of those already done.
        done: called after each trial that runs.
    """
    clock = time.perf_counter()
    data = load_flat(config.dataset, folder)
    planned = plan(config, data.digest)
    missing = [t for t in planned.trials if not (resume and store.load(t))]
    total = sum(trial.steps for trial in planned.trials)
    started(total, total - sum(trial.steps for trial in missing))
    run_all(partial(run_trial, folder=folder), missing, store, jobs=jobs, done=done)

    curves = {key: _run(store, trial) for key, trial in planned.curves.items()}
    nudged = {key: _run(store, trial) for key, trial in planned.nudged.items()}
    sweep = {key: _run(store, trial) for key, trial in planned.sweep.items()}
    arms = arm_curves(curves)
    rows = sweep_rows(sweep, trains_below=data.constant_loss / 2)
    check = agreement(curves, nudged)
    return Result(
        config=config,
        dataset=DatasetFacts.of(data),
        arms=arms,
        sweep=rows,
        agreement=check,
        claims=claims(config.curve_steps, config.sweep_steps, arms, rows, check),
        environment=environment(),
        trials=len(planned.trials),
        reused=len(planned.trials) - len(missing),
        seconds=time.perf_counter() - clock,
    )


def _run(store: TrialStore, trial: TrialConfig) -> Run:
    stored = store.load(trial)
    if stored is None:
        raise RuntimeError(
            f"figure1: every finished trial must be readable. Got none at '{store.path(trial)}'. "
            "Run again; if it stays, use another --out folder."
        )
    return TrialResult(**stored)
