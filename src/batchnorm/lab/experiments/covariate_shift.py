"""Internal covariate shift and smoothness: both explanations of batch norm, measured."""

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

import polars as pl
import polars.selectors as cs
from torch.nn import functional

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final, fit
from .._noisy import NoisyBatchNorm1d
from .._probe import Probe
from .._rules import above, differences, ratios
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset, load
from ..models import Mlp, Norm
from ..words import factor, points

__all__ = ["EXPERIMENT", "measure"]

LOOKS = 12
IOFFE = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
SANTURKAR = "Santurkar et al. 2018, {}, https://arxiv.org/abs/1805.11604"


def measure(trial: Trial, data: Dataset) -> dict[str, Any]:
    """Train one network and look at it from time to time."""
    net = Mlp(
        data.features,
        data.classes,
        _norm(trial),
        seed=trial.seed,
        hidden=64,
        depth=6,
        activation=functional.relu,
    )
    probe = Probe(net, data, trial["lr"])
    every = max(1, trial["steps"] // LOOKS)

    def after(step: int) -> None:
        for layer in net.norms:
            if isinstance(layer, NoisyBatchNorm1d):
                layer.redraw()
        if step == 1 or step % every == 0:
            probe.look(step)

    losses = fit(net, data, lr=trial["lr"], steps=trial["steps"], seed=trial.seed, after=after)
    curves = {name: [row[name] for row in probe.rows] for name in probe.rows[0]}

    return curves | {"accuracy": accuracy(net, data), "loss": final(losses, trial["steps"])}


def _norm(trial: Trial) -> Norm | None:
    seeds = count(1000 * trial.seed)
    norms: Mapping[str, Norm | None] = {
        "none": None,
        "batch": batchnorm.BatchNorm1d,
        "noisy": lambda units: NoisyBatchNorm1d(units, seed=next(seeds)),
    }

    return norms[trial.arm]


def _more(measured: str, arm: str, other: str, text: str, frame: pl.DataFrame) -> Finding:
    """Judge by how much more `arm` has than `other`, in the median over training."""
    medians = frame.with_columns(cs.list().list.median())

    return above(ratios(medians, measured, arm, other), 1.0, text, factor)


def _better(frame: pl.DataFrame, arm: str) -> Finding:
    gain = differences(frame, "accuracy", arm, "none")

    return above(gain, 0.0, "{} points against the network without", points)


def _curves(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.explode(cs.list())


def _chart(measured: str, title: str, caption: str, what: str) -> Chart:
    x, y = Axis("at", "training step"), Axis(measured, what, "log")

    return Chart(measured.replace("_", "-"), title, caption, "lines", x, y, rows=_curves)


def _grid(seeds: int, steps: int, seconds: float, *datasets: str) -> Grid:
    return Grid(seeds, datasets, {"lr": (0.1,), "steps": (steps,)}, seconds)


EXPERIMENT = Experiment(
    name="covariate-shift",
    title="Covariate shift or smoothness",
    about="A fully connected network of six hidden layers of 64 with ReLU, without a norm, with "
    "batch norm, and with batch norm followed by noise that changes from step to step (a factor "
    "around 1 to 1.25 and a shift around −0.5 to 0.5 per unit, as in Santurkar et al.’s appendix "
    "A): all at the same learning rate. From time to time training stops for a look at it, on 256 "
    "training examples. One verdict per measure compares its medians over training.",
    arms={"none": "no norm", "batch": "batch norm", "noisy": "batch norm, then noise"},
    budgets={
        "smoke": _grid(2, 30, 3, "digits"),
        "default": _grid(5, 600, 21, "digits", "mnist"),
        "full": _grid(10, 10_000, 1800, "digits", "mnist", "cifar10"),
    },
    measure=measure,
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "mean training loss of the last tenth of the steps (nats)",
        "at": "steps after which the network was looked at",
        "moved": "how far what enters an activation has moved since the look before: Wasserstein "
        "distance of normal distributions, in standard deviations, median over units; behind batch "
        "norm mean and deviation are its bias and |weight|, so that only learning moves them",
        "gradient_shift": "change of a layer’s gradient when the layers before it are updated, in "
        "lengths of the gradient, mean over layers",
        "cosine": "cosine between these two gradients, mean over layers",
        "loss_range": "highest minus lowest loss (nats) on a step of 0, ½, 1, 2 and 4 learning "
        "rates along the gradient",
        "gradient_change": "longest distance of a gradient there from that at the start",
        "smoothness": "longest such distance over the length of the step (effective β-smoothness)",
    },
    questions=(
        Question(
            "The network with batch norm is better: there is something to explain.",
            SANTURKAR.format("section 2, figure 1"),
            "holds if its test accuracy is higher at the same learning rate",
            partial(_better, arm="batch"),
        ),
        Question(
            "Batch norm reduces internal covariate shift: the distributions of what enters the "
            "layers change less during training.",
            IOFFE.format("section 2"),
            "holds if they move further without it than with it",
            partial(_more, "moved", "none", "batch", "{} times as far without"),
        ),
        Question(
            "Batch norm does not reduce internal covariate shift but increases it, where that is "
            "what the update of the layers before does to a layer’s gradient.",
            SANTURKAR.format("section 2.2"),
            "holds if the gradient’s relative change is larger with batch norm",
            partial(_more, "gradient_shift", "batch", "none", "{} times as large with batch norm"),
        ),
        Question(
            "With noise after batch norm the distributions are less steady than without any norm.",
            SANTURKAR.format("section 2.1, figure 2"),
            "holds if they move further with batch norm and noise than without a norm",
            partial(_more, "moved", "noisy", "none", "{} times as far with noise"),
        ),
        Question(
            "All the same, the network with the noise is better than that without a norm: steady "
            "distributions are not what helps.",
            SANTURKAR.format("section 2.1, figure 2"),
            "holds if its test accuracy is higher at the same learning rate",
            partial(_better, arm="noisy"),
        ),
        Question(
            "The loss varies less along the gradient with batch norm.",
            SANTURKAR.format("section 3.2, figure 4a"),
            "holds if its range is larger without batch norm",
            partial(_more, "loss_range", "none", "batch", "{} times the range without"),
        ),
        Question(
            "Gradients are more predictive with batch norm.",
            SANTURKAR.format("section 3.2, figure 4b"),
            "holds if the gradient changes more along itself without batch norm",
            partial(_more, "gradient_change", "none", "batch", "{} times the change without"),
        ),
        Question(
            "The landscape is smoother with batch norm.",
            SANTURKAR.format("section 3.2, figure 4c"),
            "holds if the gradient’s change over the length of the step is larger without",
            partial(_more, "smoothness", "none", "batch", "{} times the change without"),
        ),
    ),
    charts=(
        _chart(
            "loss_range",
            "Range of the loss along the gradient",
            "Steps of up to four learning rates; less is smoother.",
            "range of the loss (nats)",
        ),
        _chart(
            "gradient_change",
            "Change of the gradient along the gradient",
            "The same steps; less is more predictive.",
            "distance of gradients",
        ),
        _chart(
            "smoothness",
            "Effective β-smoothness",
            "The gradient’s change over the length of the step; less is smoother.",
            "change per length",
        ),
        _chart(
            "moved",
            "Movement of the distributions",
            "From one look to the next, what enters the activations; the paper’s covariate shift.",
            "standard deviations",
        ),
        _chart(
            "gradient_shift",
            "What an update of the layers before does to a gradient",
            "Relative to the gradient; covariate shift after Santurkar et al.",
            "relative change",
        ),
    ),
    load=partial(load, flat=True, train=5000, test=2000),
)
