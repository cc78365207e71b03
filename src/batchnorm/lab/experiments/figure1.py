"""Figure 1 of the batch norm paper: a deep sigmoid network with and without batch norm.

Source: Ioffe & Szegedy 2015, section 4.1 (arXiv:1502.03167).
"""

from dataclasses import replace
from typing import Any

import polars as pl

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid
from .._trial import Trial
from ..data import Dataset
from ..models import ARMS
from ..training import TrialConfig, load_flat, train
from ._figure1_claims import QUESTIONS

__all__ = ["EXPERIMENT", "measure"]

LR = 0.1


def measure(trial: Trial, data: Dataset) -> dict[str, Any]:
    """Train one network; torch's once more, from weights that are a rounding away."""
    settings: dict[str, Any] = dict(trial.settings)
    config = TrialConfig(trial.arm, trial.seed, **settings)
    found = train(config, data)
    nudged: list[float] = []
    if trial.arm == "torch":
        early = replace(config, steps=len(found.losses), evaluations=1, nudged=True)
        nudged = train(early, data).losses

    return vars(found) | {
        "accuracy": found.accuracies[-1] if found.accuracies else 0.0,
        "trains": found.loss < data.constant_loss / 2,
        "nudged": nudged,
    }


def _curves(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("arm", "seed", "at", "accuracies").explode("at", "accuracies")


def _percentiles(frame: pl.DataFrame) -> pl.DataFrame:
    """Those of the first seed, without and with batch norm."""
    shown = frame.filter(pl.col("arm").is_in(["plain", "batchnorm"]), seed=0)
    rows = shown.select("arm", "at", "percentiles").explode("at", "percentiles")
    low, middle, high = (pl.col("percentiles").list.get(place) for place in range(3))

    return rows.with_columns(low=low, middle=middle, high=high).drop("percentiles")


EXPERIMENT = Experiment(
    name="figure1",
    title="Figure 1 of the paper",
    about="Three hidden layers of 100 sigmoid units, small Gaussian weights, batches of 60, plain "
    f"SGD at the rate {LR} (the paper gives none), on binary MNIST as in the paper and on the "
    "digits of scikit-learn. The networks of a seed start from the same weights and see the same "
    "batches. Torch’s batch norm runs beside ours, and once more from weights that are moved to "
    "the next float32. `batchnorm demo` shows the same with a sweep over learning rates.",
    arms={arm.name: arm.label for arm in ARMS.values()},
    budgets={
        "smoke": Grid(2, ("digits",), {"lr": (LR,), "steps": (150,)}, 2),
        "default": Grid(
            3,
            ("digits", "mnist"),
            {"lr": (LR,), "steps": (5000,)},
            68,
            {"mnist": {"steps": (3000,)}},
        ),
        "full": Grid(10, ("digits", "mnist"), {"lr": (LR,), "steps": (50_000,)}, 1500),
    },
    measure=measure,
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "mean training loss of the last tenth of the steps (nats)",
        "trains": "whether that is below half the loss of the best constant prediction",
        "shift": "distance of the median of a sigmoid’s input from where it ends, in final 15–85 "
        "widths; mean over training, median over the last hidden layer’s units",
        "stretch": "distance of the 15–85 width from its final value, in doublings; likewise",
        "step_ms": "processor time (ms) of a training step, evaluations included",
        "at": "steps after which the network was tested",
        "accuracies": "test accuracy after each of these",
        "percentiles": "15th, 50th and 85th percentile over the test set of what enters the first "
        "sigmoid of the last hidden layer, after each of these",
        "losses": "training losses of the first 200 steps (nats)",
        "nudged": "the same from weights that are moved to the next float32 (torch’s layer alone)",
    },
    questions=QUESTIONS,
    charts=(
        Chart(
            "accuracy",
            "Test accuracy",
            "Where the two batch norm layers agree, one lies on top of the other.",
            "lines",
            Axis("at", "training step"),
            Axis("accuracies", "test accuracy", format=".0%"),
            rows=_curves,
        ),
        Chart(
            "percentiles",
            "Input of a sigmoid",
            "15th, 50th and 85th percentile over the test set of what enters the first sigmoid of "
            "the last hidden layer, seed 0. A band that stays where it is means that the layer "
            "above sees the same kind of input throughout training.",
            "bands",
            Axis("at", "training step"),
            Axis("middle", "input of the sigmoid"),
            columns="arm",
            rows=_percentiles,
        ),
    ),
    load=load_flat,
)
