"""Starting weights: how far their scale and their scheme may be off, with and without."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import polars as pl
import torch
from torch import Tensor, nn

import batchnorm

from .._chart import Axis, Chart
from .._ending import MEASURED, TRAINS, train
from .._experiment import Experiment, Grid, Question
from .._rules import above, at_best, below, between, differences, values
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset, load
from ..models import Mlp
from ..summary import estimate
from ..words import points

__all__ = ["EXPERIMENT", "measure"]

PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
DEPTH, WIDTH = 5, 64
SCHEMES: dict[str, Callable[..., Tensor]] = {
    "glorot": nn.init.xavier_uniform_,
    "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": partial(nn.init.orthogonal_, gain=math.sqrt(2)),
}


def measure(trials: Sequence[Trial], data: Dataset) -> list[dict[str, float]]:
    """Train networks that differ in seed and rate."""
    return train(trials, [_net(trial, data) for trial in trials], data)


def _net(trial: Trial, data: Dataset) -> Mlp:
    def start(weight: Tensor, generator: torch.Generator) -> None:
        SCHEMES[trial["scheme"]](weight, generator=generator).mul_(trial["scale"])

    return Mlp(
        data.features,
        data.classes,
        batchnorm.BatchNorm1d if trial.arm == "batchnorm" else None,
        seed=trial.seed,
        hidden=WIDTH,
        depth=DEPTH,
        activation=torch.relu,
        start=start,
    )


def _at_best(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame, "lr", "loss", per=("scheme", "scale"))


def _wider(frame: pl.DataFrame) -> Finding:
    scales = frame["scale"].unique().sort().log10()
    step = (scales[-1] - scales[0]) / (len(scales) - 1)
    decades = TRAINS.sum().over("arm", "seed", "scheme") * step
    found = _at_best(frame).with_columns(decades=decades)

    return above(
        differences(found, "decades", "batchnorm", "plain"),
        0.0,
        "{} decades more of starting scales train",
        "{:+.2f}".format,
    )


def _spread(frame: pl.DataFrame, over: Sequence[str]) -> list[float]:
    """Highest minus lowest accuracy with batch norm, seed by seed."""
    accuracy = pl.col("accuracy")
    spreads = frame.with_columns(spread=(accuracy.max() - accuracy.min()).over("arm", *over))

    return values(spreads, "spread", "batchnorm")


def _scale_is_free(frame: pl.DataFrame) -> Finding:
    spread = _spread(_at_best(frame), ("seed", "scheme"))

    return below(estimate(spread), 0.05, "{} points between the best and the worst scale", points)


def _scheme_is_free(frame: pl.DataFrame) -> Finding:
    spread = _spread(_at_best(frame).filter(scale=1.0), ("seed",))

    return below(estimate(spread), 0.02, "{} points between the best and the worst scheme", points)


def _start_is_enough(frame: pl.DataFrame) -> Finding:
    found = differences(_at_best(frame), "accuracy", "plain", "batchnorm", scheme="he", scale=1.0)

    return between(found, -0.01, 0.01, "{} points without batch norm", points)


def _heat(frame: pl.DataFrame) -> pl.DataFrame:
    labels = EXPERIMENT.arms

    return frame.filter(scheme="he").with_columns(pl.col("arm").replace(labels).alias("with"))


SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
RATES = (0.001, 0.01, 0.1, 1.0)


def _grid(
    seeds: int,
    steps: int,
    scales: tuple[float, ...],
    rates: tuple[float, ...],
    seconds: float,
    *datasets: str,
) -> Grid:
    return Grid(
        seeds,
        datasets,
        {"scheme": tuple(SCHEMES), "scale": scales, "lr": rates, "steps": (steps,)},
        seconds,
    )


EXPERIMENT = Experiment(
    name="initialisation",
    title="Starting weights",
    about="A fully connected ReLU network of five hidden layers of 64 units, with and without "
    "batch norm, from starting weights of three schemes (those of Glorot & Bengio, uniform; of He "
    "et al., normal; orthogonal ones), all weights multiplied by a scale, those of the output "
    "layer too. Each scheme and scale gets the learning rate with the lowest training loss. "
    "Inputs are standardised.",
    arms={"plain": "no norm", "batchnorm": "batch norm"},
    budgets={
        "smoke": _grid(3, 20, (0.1, 1.0, 10.0), (0.1,), 2, "digits"),
        "default": _grid(4, 150, SCALES, RATES, 37, "digits", "usps"),
        "full": _grid(
            10,
            3000,
            (0.01, 0.03, *SCALES, 30.0, 100.0),
            (*RATES, 10.0),
            8000,
            "digits",
            "usps",
            "mnist",
        ),
    },
    measure_together=measure,
    together=("seed", "lr"),
    load=partial(load, flat=True, standard=True),
    measured=MEASURED,
    questions=(
        Question(
            "With batch norm a network trains from a wider range of starting scales.",
            PAPER.format("abstract and section 3.3"),
            "holds if more decades of scales end below half the loss of a constant guess",
            _wider,
        ),
        Question(
            "With batch norm the starting scale costs no accuracy, be it a tenth of the usual one "
            "or ten times as large.",
            PAPER.format("section 3.3"),
            "holds if the best and the worst scale are less than five points apart",
            _scale_is_free,
        ),
        Question(
            "With batch norm the scheme does not matter.",
            PAPER.format("abstract"),
            "holds if at scale 1 the best and the worst scheme are less than two points apart",
            _scheme_is_free,
        ),
        Question(
            "A network that starts right needs no batch norm: it ends as accurate without.",
            "Mishkin & Matas 2016, https://arxiv.org/abs/1511.06422, of a start that looks at the "
            "data; here that of He et al., which does not",
            "holds if the difference lies within one percentage point either way",
            _start_is_enough,
        ),
    ),
    charts=(
        Chart(
            "scales",
            "Accuracy over starting scales",
            "Each point at the learning rate with the lowest training loss. A flat line means that "
            "the scale does not matter.",
            "lines",
            Axis("scale", "all weights multiplied by", "log"),
            Axis("accuracy", "test accuracy", format=".0%", domain=(0.0, 1.0)),
            columns="scheme",
            rows=_at_best,
        ),
        Chart(
            "rates",
            "Scale and learning rate together",
            "He et al.’s scheme. With batch norm a larger scale wants a higher rate.",
            "heat",
            Axis("scale", "all weights multiplied by", "ordinal"),
            Axis("lr", "learning rate", "ordinal"),
            columns="with",
            value=Axis("accuracy", "test accuracy", format=".0%", domain=(0.0, 1.0)),
            rows=_heat,
        ),
    ),
)
