"""Batch norm before or after the activation, by activation, in two kinds of network."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl
from torch import nn

import batchnorm

from .._chart import Axis, Chart
from .._ending import MEASURED, ending
from .._experiment import Experiment, Grid, Question
from .._fit import fit
from .._rules import above, at_best, between, differences
from .._trial import Trial, Value
from ..claims import Finding
from ..data import Dataset, load
from ..models import ConvNet, Mlp, Placement
from ..words import points

__all__ = ["EXPERIMENT", "measure"]

SOURCES = (
    "Ioffe & Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167. After it: Chollet, "
    "https://github.com/keras-team/keras/issues/1802, and Mishkin, "
    "https://github.com/ducha-aiki/caffenet-benchmark/blob/master/batchnorm.md"
)
PUBLISHED = (
    "Mishkin, ImageNet at 128 pixels, with weight and bias: CaffeNet 47.8 % before, 49.3 % after. "
    "GoogLeNet: 60.3 % before; 59.6 % after, there without"
)
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
LABELS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU", "gelu": "GELU"}
NETS = {"conv": "convolutional", "mlp": "fully connected"}
HIGHEST = (4.0, 8.0)
SIZES = {"digits": 8, "usps": 8, "mnist": 28, "cifar10": 32}


def images(name: str, folder: Path | None) -> Dataset:
    """Standardised images of the size that stands in ``SIZES``."""
    return load(name, folder, size=SIZES[name], standard=True)


def measure(trial: Trial, data: Dataset) -> dict[str, float]:
    """Train one network; its rate falls to nothing, so that the end does not depend on chance."""
    net = _net(trial, data)
    steps = trial["steps"]
    losses = fit(
        net,
        data,
        lr=trial["lr"],
        steps=steps,
        seed=trial.seed,
        schedule=lambda done: 1 - done,
    )

    return ending(net, data, losses, steps)


def _net(trial: Trial, data: Dataset) -> nn.Module:
    activation = ACTIVATIONS[trial["activation"]]
    placement: Placement = "before" if trial.arm == "before" else "after"
    if trial["net"] == "conv":
        return ConvNet(
            batchnorm.BatchNorm2d,
            seed=trial.seed,
            channels=data.shape[0],
            classes=data.classes,
            widths=(8, 16, 32),
            activation=activation,
            placement=placement,
        )
    mlp = Mlp(
        data.features,
        data.classes,
        batchnorm.BatchNorm1d,
        seed=trial.seed,
        activation=activation(),
        placement=placement,
    )

    return nn.Sequential(nn.Flatten(), mlp)


def _at_best(frame: pl.DataFrame) -> pl.DataFrame:
    labels = {
        "net": pl.col("net").replace(NETS),
        "activation": pl.col("activation").replace(LABELS),
    }

    return at_best(frame, "lr", "loss", per=("net", "activation")).with_columns(**labels)


def _before(net: str, activation: str, frame: pl.DataFrame) -> Finding:
    found = differences(
        _at_best(frame), "accuracy", "before", "after", net=net, activation=activation
    )

    return above(found, 0.0, "{} points before it", points)


def _no_matter(activation: str, frame: pl.DataFrame) -> Finding:
    found = differences(_at_best(frame), "accuracy", "before", "after", activation=activation)

    return between(found, -0.01, 0.01, "{} points before it", points)


def _question(net: str, activation: str) -> Question:
    return Question(
        f"A {net} network with {activation} ends more accurate with batch norm before the "
        "activation than after it.",
        SOURCES,
        "holds if the difference is above 0, fails if it is below, each place at the rate with the "
        "lowest training loss",
        partial(_before, net, activation),
        PUBLISHED if (net, activation) == ("convolutional", "ReLU") else "",
    )


def _keep(_arm: str, settings: Mapping[str, Value]) -> bool:
    """The highest rates are for the sigmoid, whose slope is a quarter at most."""
    return settings["lr"] not in HIGHEST or settings["activation"] == "sigmoid"


def _grid(seeds: int, steps: int, lrs: tuple[float, ...], seconds: float, *data: str) -> Grid:
    kinds = {"net": tuple(NETS), "activation": tuple(ACTIVATIONS)}

    return Grid(seeds, data, {**kinds, "lr": lrs, "steps": (steps,)}, seconds)


EXPERIMENT = Experiment(
    name="placement",
    title="Before or after the activation",
    about="The same networks with batch norm before and after every activation: three 3×3 "
    "convolutions of 8, 16 and 32 channels, and three fully connected layers of 100 units. "
    "Neither place has biases beside the norm’s. Learning rates fall to zero in a straight line. "
    "Inputs are standardised; USPS is pooled to 8×8.",
    arms={"before": "before the activation", "after": "after the activation"},
    budgets={
        "smoke": _grid(2, 15, (0.5,), 2, "digits"),
        "default": _grid(4, 110, (0.5, 2.0, *HIGHEST), 28, "digits", "usps"),
        "full": _grid(
            10, 2000, (0.03, 0.1, 0.5, 2.0, *HIGHEST), 22_000, "digits", "usps", "mnist", "cifar10"
        ),
    },
    measure=measure,
    keep=_keep,
    load=images,
    measured=MEASURED,
    questions=(
        *(_question(net, activation) for net in NETS.values() for activation in LABELS.values()),
        *(
            Question(
                f"With {label} the place does not matter.",
                "Geifman, https://github.com/geifmany/cifar-vgg/issues/5: both work",
                "holds if over both networks the mean difference lies within one percentage point "
                "either way",
                partial(_no_matter, label),
            )
            for label in LABELS.values()
        ),
    ),
    charts=(
        Chart(
            "accuracy",
            "Accuracy by place",
            "Each place at the rate with the lowest training loss.",
            "points",
            Axis("activation", "activation", "ordinal"),
            Axis("accuracy", "test accuracy", format=".0%"),
            columns="net",
            rows=_at_best,
        ),
        Chart(
            "loss",
            "Training loss by place",
            "How well the training examples are fitted in the end.",
            "points",
            Axis("activation", "activation", "ordinal"),
            Axis("loss", "training loss, relative to a constant guess", "log"),
            columns="net",
            rows=_at_best,
        ),
    ),
)
