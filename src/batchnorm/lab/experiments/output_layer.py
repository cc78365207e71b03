"""Batch norm at the end of a network: on the output, and right before the last layer."""

from collections.abc import Sequence
from functools import partial

import polars as pl
import torch
from torch import nn
from torch.nn import functional

import batchnorm

from .._chart import Axis, Chart
from .._ending import MEASURED, train
from .._experiment import Experiment, Grid, Question
from .._fit import predictions
from .._rules import at_best, below, differences, values
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset, load
from ..models import Mlp
from ..summary import estimate
from ..words import percent, points

__all__ = ["EXPERIMENT", "measure"]

ALONE = 50


def measure(trials: Sequence[Trial], data: Dataset) -> list[dict[str, float]]:
    """Train networks that differ in seed and rate."""
    nets = [_net(trial, data) for trial in trials]
    trained = train(trials, nets, data)

    return [found | _ends(net, data) for found, net in zip(trained, nets, strict=True)]


def _net(trial: Trial, data: Dataset) -> Mlp:
    """Hidden layers have biases, so that the one without a norm has one too."""
    net = Mlp(
        data.features,
        data.classes,
        batchnorm.BatchNorm1d,
        seed=trial.seed,
        activation=torch.relu,
        bias=True,
        norm_output=trial.arm == "output",
    )
    if trial.arm == "fixed":
        net.last = batchnorm.BatchNorm1d(data.classes, affine=False)
    elif trial.arm == "earlier":
        net.norms[-1] = nn.Identity()

    return net


@torch.no_grad()
def _ends(net: Mlp, data: Dataset) -> dict[str, float]:
    logits = predictions(net, data)

    return {
        "test_loss": float(functional.cross_entropy(logits, data.y_test)),
        "confidence": float(logits.softmax(1).amax(1).mean()),
        "alone": _alone(net, data),
    }


def _alone(net: Mlp, data: Dataset) -> float:
    """Mean accuracy over the classes in training mode, each class in a batch of its own."""
    shares = []
    with batchnorm.skip_updates(net):
        for label in data.y_test.unique():
            batch = data.x_test[data.y_test == label][:ALONE]
            shares.append(float((net(batch).argmax(1) == label).double().mean()))

    return sum(shares) / len(shares)


def _costs(frame: pl.DataFrame) -> Finding:
    found = differences(at_best(frame, "lr", "loss"), "accuracy", "output", "hidden")

    return below(found, 0.0, "{} points with the output normalised", points)


def _hurts(frame: pl.DataFrame) -> Finding:
    found = differences(at_best(frame, "lr", "loss"), "accuracy", "hidden", "earlier")

    return below(found, 0.0, "{} points with the last hidden layer normalised", points)


def _unsure(frame: pl.DataFrame) -> Finding:
    found = values(at_best(frame, "lr", "loss"), "confidence", "fixed")

    return below(estimate(found), 0.8, "{} on average", percent)


def _neighbours(frame: pl.DataFrame) -> Finding:
    found = values(at_best(frame, "lr", "loss"), "alone", "hidden")

    return below(estimate(found), 0.5, "{} of examples among their like are named", percent)


def _grid(seeds: int, steps: int, lrs: tuple[float, ...], seconds: float, *data: str) -> Grid:
    return Grid(seeds, data, {"lr": lrs, "steps": (steps,)}, seconds)


RATES = (0.03, 0.1, 0.3, 1.0)
EXPERIMENT = Experiment(
    name="output-layer",
    title="Batch norm on the output",
    about="A fully connected ReLU network of three hidden layers of 100 units with batch norm in "
    "all of them, in all but the last of them, and in all of them and on the output, there with "
    "and without weight and bias. Each arm gets the learning rate with the lowest training loss. "
    "Inputs are standardised.",
    arms={
        "hidden": "hidden layers",
        "earlier": "hidden layers but the last",
        "output": "hidden layers and output",
        "fixed": "output without weight and bias",
    },
    budgets={
        "smoke": _grid(3, 40, (0.3,), 1, "digits"),
        "default": _grid(7, 300, RATES, 15, "digits", "usps"),
        "full": _grid(20, 10_000, RATES, 3000, "digits", "usps", "mnist"),
    },
    measure_together=measure,
    together=("seed", "lr"),
    load=partial(load, flat=True, standard=True),
    measured={
        **MEASURED,
        "test_loss": "test loss (nats) at the end",
        "confidence": "mean probability that the network gives to what it predicts, on test data",
        "alone": "test accuracy in training mode when every batch holds one class only",
    },
    questions=(
        Question(
            "Batch norm on the output costs accuracy.",
            "https://stats.stackexchange.com/q/361700, the accepted answer: right before the "
            "output noise cannot be coped with",
            "holds if accuracy is lower with it, fails if it is higher",
            _costs,
        ),
        Question(
            "Batch norm right before the last layer hurts.",
            "https://stats.stackexchange.com/q/361700, the accepted answer",
            "holds if accuracy is lower with it, fails if it is higher",
            _hurts,
        ),
        Question(
            "An output that is normalised without weight and bias cannot be sure of anything.",
            "Ioffe & Szegedy 2015, section 3, https://arxiv.org/abs/1502.03167: normalising may "
            "change what a layer can represent. Arithmetic: ten outputs of mean 0 and variance 1 "
            "tell ten classes alike in number apart best at 3 and −1/3, a probability of 76 %",
            "holds if predictions have less than 80 % on average",
            _unsure,
        ),
        Question(
            "In training mode a prediction depends on the examples beside it, also where the "
            "output is not normalised.",
            "Ioffe & Szegedy 2015, section 3.4, https://arxiv.org/abs/1502.03167: values for an "
            "example are not deterministic in training",
            "holds if in training mode less than half of the examples are named rightly in a batch "
            "of nothing but their class",
            _neighbours,
        ),
    ),
    charts=(
        Chart(
            "accuracy",
            "Accuracy",
            "Over the learning rates: where a line is high the network predicts well.",
            "lines",
            Axis("lr", "learning rate", "log"),
            Axis("accuracy", "test accuracy", format=".0%"),
        ),
        Chart(
            "test-loss",
            "Test loss",
            "An output without weight and bias cannot be sure, which costs it here.",
            "lines",
            Axis("lr", "learning rate", "log"),
            Axis("test_loss", "test loss (nats)", "log"),
        ),
        Chart(
            "confidence",
            "Confidence",
            "The probability that networks give to what they predict, at the best rate.",
            "bars",
            Axis("arm", "batch norm in", "ordinal"),
            Axis("confidence", "mean probability", format=".0%", domain=(0.0, 1.0)),
            rows=partial(at_best, setting="lr", by="loss"),
        ),
    ),
)
