"""What a convolutional network's activations do while it trains, with and without batch norm."""

import math
from typing import Any

import polars as pl
import torch

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final, fit
from .._looks import REACH, columns, fall, farthest, look
from .._rules import above, at_best, below, differences, ratios, values
from .._small_images import load_small
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset
from ..models import ConvNet
from ..summary import estimate
from ..words import factor, percent, points

__all__ = ["EXPERIMENT", "measure"]

WIDTHS = (8, 16, 32, 64)
PROBED = 200
LOOKS = 20
LEAST = 1e-3  # a share that a picture tells from none
FASTBOOK = (
    "Howard & Gugger 2020, chapter 13, "
    "https://github.com/fastai/fastbook/blob/master/13_convolutions.ipynb"
)


def measure(trial: Trial, data: Dataset) -> dict[str, Any]:
    """Train one network and look at the same examples again and again."""
    norm = batchnorm.BatchNorm2d if trial.arm == "batch" else None
    net = ConvNet(
        norm, seed=trial.seed, channels=data.shape[0], classes=data.classes, widths=WIDTHS
    )
    steps, x = trial["steps"], data.x_train[:PROBED]
    looks = [look(net, x, 0)]

    def after(step: int) -> None:
        if step % (steps // LOOKS) == 0:
            looks.append(look(net, x, step))

    losses = fit(net, data, lr=trial["lr"], steps=steps, seed=trial.seed, after=after)
    std = torch.tensor([one.std for one in looks])

    return {
        "accuracy": accuracy(net, data),
        "loss": final(losses, steps),
        "fall": fall(std) if math.isfinite(losses[-1]) else 1.0,
        "wander": farthest(std / std[0]),
        "scale": farthest(std),
        "silent": looks[-1].silent,
        **columns(looks),
    }


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame, "lr", "loss")


def _highest(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("lr") == pl.col("lr").max())


def _crashes(frame: pl.DataFrame) -> Finding:
    return above(
        differences(_highest(frame), "fall", "none", "batch"),
        0.0,
        "{} points more of its highest spread lost without",
        points,
    )


def _smooth(frame: pl.DataFrame) -> Finding:
    fallen = estimate(values(_highest(frame), "fall", "batch"))

    return below(fallen, 0.5, "{} of a layer’s highest spread lost", percent)


def _steady(frame: pl.DataFrame) -> Finding:
    changed = ratios(_best(frame), "wander", "batch", "none")

    return below(changed, 1.0, "{} times the change without", factor)


def _near_one(frame: pl.DataFrame) -> Finding:
    return below(
        estimate(values(_best(frame), "scale", "batch")),
        2.0,
        "up to a factor of {} from 1",
        factor,
    )


def _speaking(frame: pl.DataFrame) -> Finding:
    return below(
        differences(_best(frame), "silent", "batch", "none"), 0.0, "{} points with it", points
    )


def _curves(frame: pl.DataFrame) -> pl.DataFrame:
    curves = ["step", "layer", "mean", "std"]

    return (
        _best(frame)
        .select("arm", "seed", *curves)
        .explode(curves)
        .with_columns(pl.format("layer {}", "layer").alias("layer"))
    )


def _histograms(frame: pl.DataFrame) -> pl.DataFrame:
    counts = ["bin_step", "bin", "share"]

    return (
        _highest(frame)
        .select("arm", "seed", *counts)
        .explode(counts)
        .with_columns(log_share=pl.col("share").clip(LEAST).log10())
    )


def _grid(seeds: int, steps: int, seconds: float, **own: int) -> Grid:
    """A grid with a number of steps of its own for some datasets."""
    settings = {"lr": (0.1, 0.4, 1.6), "steps": (steps,)}
    by_dataset = {name: {"steps": (steps,)} for name, steps in own.items()}

    return Grid(seeds, ("digits", *own), settings, seconds, by_dataset=by_dataset)


EXPERIMENT = Experiment(
    name="activations",
    title="Activations while a network trains",
    about="Four convolutions and ReLUs, with and without batch norm before each ReLU, by SGD from "
    f"the same weights. The same {PROBED} training images are shown to the network in training "
    f"mode {LOOKS} times on the way; looked at is what enters each ReLU. Behind "
    "batch norm its spread on these images is |weight|, so that only learning moves it. Three "
    "rates: claims about high rates are judged at the highest, the others at each arm’s best by "
    "training loss.",
    arms={"none": "no norm", "batch": "batch norm"},
    budgets={
        "smoke": _grid(3, 20, 3),
        "default": _grid(3, 300, 16, mnist=200),
        "full": _grid(10, 5000, 4000, mnist=5000, cifar10=5000),
    },
    measure=measure,
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "training loss (nats), mean of the last tenth of the steps; inf if it diverged",
        "fall": "largest share of its highest spread so far that a layer loses; 1 if the run "
        "diverged",
        "wander": "largest factor between a layer’s spread and its spread before training",
        "scale": "largest factor between a layer’s spread and 1",
        "silent": "share of the last ReLU’s outputs that are zero at the end",
        "step": "minibatches before each look, for each layer",
        "layer": "1 the first, at each look",
        "mean": "of what enters the layer’s ReLU",
        "std": "its spread: the standard deviation",
        "bin_step": "minibatches before each look, for each bin",
        "bin": f"middle of the bin; the outer bins have what lies beyond ±{REACH:g}, too",
        "share": "share of what enters the last ReLU in the bin",
    },
    questions=(
        Question(
            "At a high learning rate activations crash without batch norm, and less with it.",
            FASTBOOK,
            "holds if at the highest rate a layer’s spread loses a larger share of its highest "
            "value without batch norm",
            _crashes,
        ),
        Question(
            "With batch norm activations develop smoothly, without crashes.",
            FASTBOOK,
            "holds if no layer’s spread falls below half of its highest value, at the highest rate",
            _smooth,
        ),
        Question(
            "With batch norm the spread of a layer’s activations changes less in training.",
            "Ioffe & Szegedy 2015, section 1, https://arxiv.org/abs/1502.03167",
            "holds if the largest factor by which a layer’s spread changes is smaller with it",
            _steady,
        ),
        Question(
            "Training does not undo the normalisation: spreads stay near 1.",
            "Ioffe & Szegedy 2015, section 3, where weight and bias could undo it, "
            "https://arxiv.org/abs/1502.03167",
            "holds if every layer’s spread stays between 1/2 and 2 throughout training",
            _near_one,
        ),
        Question(
            "With batch norm fewer activations are zero.",
            FASTBOOK,
            "holds if the share of the last ReLU’s outputs that are zero is smaller with it",
            _speaking,
        ),
    ),
    charts=(
        Chart(
            key="histograms",
            title="What enters the last ReLU",
            caption="Each column is a histogram at one step, at the highest rate: the brighter, "
            "the more activations. The outer bins have what lies beyond.",
            mark="heat",
            x=Axis("bin_step", "step", scale="ordinal"),
            y=Axis("bin", "activation", scale="ordinal"),
            columns="arm",
            value=Axis("log_share", "log₁₀ of the share", format=".1f"),
            rows=_histograms,
        ),
        Chart(
            key="spread",
            title="Spread of each layer",
            caption="Standard deviation of what enters each ReLU, at each arm’s best rate.",
            mark="lines",
            x=Axis("step", "step"),
            y=Axis("std", "standard deviation", scale="log"),
            columns="layer",
            rows=_curves,
        ),
        Chart(
            key="mean",
            title="Mean of each layer",
            caption="Mean of what enters each ReLU, at each arm’s best rate.",
            mark="lines",
            x=Axis("step", "step"),
            y=Axis("mean", "mean"),
            columns="layer",
            rows=_curves,
        ),
    ),
    load=load_small,
)
