"""Experiments without training: trials that return what their configuration says."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from batchnorm.lab import Experiment, Grid, Question, Trial, above, differences

TRIALS = 2 * 3 * 2  # arms, seeds, rates


@dataclass(frozen=True)
class Numbers:
    title: str
    digest: str


def load(name, folder):
    if name == "far" and folder is None:
        raise ValueError("far: a folder must be named. Got none. Use --data.")
    return Numbers(name.title(), f"digest of {name}")


def measure(trial, data):
    _record(trial)
    return {"score": trial.seed + 10 * (trial.arm == "treated") + trial["lr"]}


def measure_together(trials, data):
    assert len({trial.arm for trial in trials}) == 1
    return [measure(trial, data) for trial in trials]


def measure_and_die(trial, data):
    if trial.arm == "treated" and trial.seed == 2 and "SURVIVE" not in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(trial, data)


def _record(trial: Trial) -> None:
    """One line for every measurement, whichever process made it."""
    if path := os.environ.get("TRIALS_RUN"):
        with Path(path).open("a") as file:
            file.write(f"{trial}\n")


PLAIN = Experiment(
    name="plain",
    title="Numbers",
    about="None.",
    arms={"control": "without", "treated": "with"},
    budgets={
        "smoke": Grid(3, ("near", "far"), {"lr": (0.25, 0.5)}, 0.1),
        "default": Grid(20, ("near",), {"lr": (0.25, 0.5, 1.0)}, 0.1),
    },
    measure=measure,
    measured={"score": "points"},
    questions=(
        Question(
            "Treatment helps.",
            "Nobody 2020",
            "holds if the difference is above 5",
            lambda frame: above(
                differences(frame, "score", "treated", "control"), 5.0, "{} points more"
            ),
        ),
    ),
    load=load,
)
TOGETHER = replace(
    PLAIN, name="together", measure=None, measure_together=measure_together, together=("seed", "lr")
)
MORTAL = replace(PLAIN, name="mortal", measure=measure_and_die)
