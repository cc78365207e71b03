"""Robustness: how large a part of randomly drawn hyperparameters trains well."""

import math
import statistics
from functools import partial

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final, fit
from .._rules import above, between, differences, values
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset, load
from ..models import Mlp
from ..summary import estimate, paired_shares
from ..words import percent, points

__all__ = ["EXPERIMENT", "measure"]

NEAR = 0.05  # of the best accuracy that was found
CARELESS = 3.0
POINT = 0.01
ACCURACIES = [step / 50 for step in range(51)]
NOTHING = Finding("undecided", estimate([math.nan]), "no draw was like that")
PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"


def measure(trial: Trial, data: Dataset) -> dict[str, float]:
    """Train one network with what the seed draws."""
    drawn = _drawn(trial.seed)
    net = Mlp(
        data.features,
        data.classes,
        batchnorm.BatchNorm1d if trial.arm == "with" else None,
        seed=trial.seed,
        hidden=int(drawn["width"]),
        activation=functional.relu,
        start=partial(_scaled, drawn["scale"]),
    )
    losses = fit(
        net,
        data,
        lr=drawn["lr"],
        steps=trial["steps"],
        seed=trial.seed,
        batch_size=int(drawn["batch_size"]),
        momentum=drawn["momentum"],
        weight_decay=drawn["weight_decay"],
    )
    loss = final(losses, trial["steps"])

    return drawn | {
        "accuracy": accuracy(net, data),
        "loss": loss,
        "failed": float(not loss < data.constant_loss),
    }


def _drawn(seed: int) -> dict[str, float]:
    """Hyperparameters, the same for both networks and all data."""
    chance = np.random.default_rng(seed)

    def between_powers(low: float, high: float) -> float:
        return float(math.exp(chance.uniform(math.log(low), math.log(high))))

    return {
        "lr": between_powers(1e-3, 10.0),
        "momentum": 1 - between_powers(0.05, 1.0),
        "batch_size": float(chance.choice([8, 16, 32, 64, 128, 256])),
        "scale": between_powers(0.1, 10.0),
        "width": float(chance.choice([32, 64, 128, 256])),
        "weight_decay": between_powers(1e-5, 1e-1),
    }


def _scaled(scale: float, weight: Tensor, generator: torch.Generator) -> None:
    nn.init.xavier_normal_(weight, scale, generator)


def _reach(frame: pl.DataFrame, *, careless: bool = False) -> Finding:
    """Judge the share of draws that come near the best that either network found."""
    chosen = frame.with_columns(met=_near(frame))
    if careless:
        chosen = chosen.filter(pl.col("scale").log().abs() > math.log(CARELESS))

    return _more(chosen, "reach it")


def _failing(frame: pl.DataFrame) -> Finding:
    """Judge the share of draws that learn nothing; fewer count as more that learn."""
    return _more(frame.with_columns(met=pl.col("failed") == 0), "learn something")


def _more(frame: pl.DataFrame, what: str) -> Finding:
    """Judge how much more often a condition, ``met``, is met with batch norm."""
    if frame.is_empty():
        return NOTHING
    mine, theirs = (values(frame, "met", arm) for arm in ("with", "without"))
    shares = (percent(statistics.fmean(each)) for each in (theirs, mine))
    text = "{{}} points: {} of {} draws {} without batch norm, {} with"

    return above(
        paired_shares(list(map(bool, mine)), list(map(bool, theirs))),
        0.0,
        text.format(next(shares), len(mine), what, next(shares)),
        points,
    )


def _where_both_do(frame: pl.DataFrame) -> Finding:
    """Judge the difference among the draws with which both networks come near the best."""
    both = frame.filter(_near(frame).all().over("seed"))
    if both.is_empty():
        return NOTHING
    gain = differences(both, "accuracy", "with", "without")

    return between(gain, -POINT, POINT, f"{{}} points over {gain.count} draws", points)


def _near(frame: pl.DataFrame) -> pl.Expr:
    best = float(frame.select(pl.col("accuracy").max()).item())

    return pl.col("accuracy") >= best - NEAR


def _reached(frame: pl.DataFrame) -> pl.DataFrame:
    """For every accuracy the share of the draws that reach it."""
    shares = frame.group_by("arm").agg(
        accuracy=pl.lit(ACCURACIES).first(),
        share=pl.concat_list([(pl.col("accuracy") >= a).mean() for a in ACCURACIES]).first(),
    )

    return shares.explode("accuracy", "share").sort("arm", "accuracy")


def _grid(draws: int, steps: int, seconds: float, *datasets: str) -> Grid:
    return Grid(draws, datasets, {"steps": (steps,)}, seconds)


EXPERIMENT = Experiment(
    name="robustness",
    title="Randomly drawn hyperparameters",
    about="A seed draws learning rate (0.001 to 10), momentum (0 to 0.95), batch size (8 to 256), "
    "scale of the starting weights (a tenth to ten times Glorot’s), width (32 to 256) and weight "
    "decay (10⁻⁵ to 0.1), all evenly on a logarithm. A fully connected network of three hidden "
    "layers with ReLU is trained with them, with and without batch norm, for the same number of "
    "steps.",
    arms={"without": "no norm", "with": "batch norm"},
    budgets={
        "smoke": _grid(16, 60, 3, "digits"),
        "default": _grid(60, 200, 32, "digits", "mnist"),
        "full": _grid(300, 2000, 3700, "digits", "mnist", "usps", "fashion_mnist"),
    },
    measure=measure,
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "mean training loss of the last tenth of the steps (nats); infinite if it diverged",
        "failed": "1 if that loss is no lower than that of the best constant prediction, else 0",
        "lr": "learning rate drawn",
        "momentum": "momentum drawn",
        "batch_size": "examples per minibatch drawn",
        "scale": "standard deviation of the starting weights drawn, relative to Glorot’s",
        "width": "width of the hidden layers drawn",
        "weight_decay": "weight decay drawn",
    },
    questions=(
        Question(
            "More of all hyperparameters are good enough with batch norm.",
            PAPER.format("section 1"),
            f"holds if more draws come within {100 * NEAR:.0f} points of the best test accuracy "
            "that either network found (exact interval from the draws that tell them apart)",
            _reach,
        ),
        Question(
            "Batch norm forgives a careless initialisation.",
            PAPER.format("abstract"),
            "holds if that is so among the draws that start with weights more than "
            f"{CARELESS:.0f} times too large or too small",
            partial(_reach, careless=True),
        ),
        Question(
            "Fewer runs learn nothing with batch norm.",
            "Bjorck et al. 2018, abstract, https://arxiv.org/abs/1806.02375",
            "holds if fewer draws end with a training loss no lower than that of the best constant "
            "prediction, or with none",
            _failing,
        ),
        Question(
            "Where both networks train well they are equally good: batch norm only forgives.",
            "Zhang, Dauphin & Ma 2019, abstract, https://arxiv.org/abs/1901.09321",
            "holds if, among draws with which both come that near the best, the difference lies "
            f"within {100 * POINT:.0f} point either way",
            _where_both_do,
        ),
    ),
    charts=(
        Chart(
            "reached",
            "How many draws reach an accuracy",
            "The share of all draws whose network has at least this test accuracy.",
            "lines",
            Axis("accuracy", "test accuracy", format=".0%"),
            Axis("share", "share of the draws", format=".0%", domain=(0, 1)),
            rows=_reached,
        ),
        Chart(
            "rates",
            "Accuracy by learning rate",
            "A point per draw; the rest was drawn too.",
            "points",
            Axis("lr", "learning rate", "log"),
            Axis("accuracy", "test accuracy", format=".0%", domain=(0, 1)),
        ),
        Chart(
            "scales",
            "Accuracy by scale of the starting weights",
            "A point per draw; the rest was drawn too.",
            "points",
            Axis("scale", "standard deviation, relative to Glorot’s", "log"),
            Axis("accuracy", "test accuracy", format=".0%", domain=(0, 1)),
        ),
    ),
    load=partial(load, flat=True, train=5000, test=2000),
)
