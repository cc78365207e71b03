"""Depth: how activations and gradients change from layer to layer, and how deep still trains."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final
from .._rules import above, at_best, below, between, highest, values
from .._together import fit_together
from .._trial import Trial, Value
from ..claims import Finding
from ..data import Dataset, load
from ..models import Mlp
from ..summary import estimate, ratio

__all__ = ["EXPERIMENT", "measure"]

PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
YANG = "Yang et al. 2019, {}, https://arxiv.org/abs/1902.08129"
DEEPEST, WIDTH, BATCH = 100, 32, 32
EXPLOSION = math.sqrt(math.pi / (math.pi - 1))
TRAINS = pl.col("loss") < 0.5
CLOSE = 0.05
SEEN = 1e15
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}
# The spread of a layer's weights, times √fan-in, at gain 1.
SPREAD = {"sigmoid": 1.0, "tanh": 1.0, "relu": math.sqrt(2)}


def measure(trials: Sequence[Trial], data: Dataset) -> list[dict[str, Any]]:
    """Look at networks as they start (rate 0), or train those that differ in seed and rate."""
    trained = [trial for trial in trials if trial["lr"]]
    found = dict(zip(trained, _train(trained, data), strict=True)) if trained else {}

    return [found[trial] if trial["lr"] else _flow(_net(trial, data), data) for trial in trials]


def _train(trials: Sequence[Trial], data: Dataset) -> list[dict[str, float]]:
    steps = trials[0]["steps"]
    nets = [_net(trial, data) for trial in trials]
    losses = fit_together(
        nets,
        data,
        lrs=[trial["lr"] for trial in trials],
        seeds=[trial.seed for trial in trials],
        steps=steps,
        batch_size=BATCH,
    )

    return [
        {"accuracy": accuracy(net, data), "loss": final(lost, steps) / data.constant_loss}
        for net, lost in zip(nets, losses, strict=True)
    ]


def _net(trial: Trial, data: Dataset) -> Mlp:
    spread = SPREAD[trial["activation"]] * trial["gain"]

    def start(weight: Tensor, generator: torch.Generator) -> None:
        nn.init.normal_(weight, 0, spread * weight.shape[1] ** -0.5, generator=generator)

    return Mlp(
        data.features,
        data.classes,
        batchnorm.BatchNorm1d if trial.arm == "batchnorm" else None,
        seed=trial.seed,
        hidden=WIDTH,
        depth=trial["depth"],
        activation=ACTIVATIONS[trial["activation"]],
        start=start,
    )


def _flow(net: Mlp, data: Dataset, examples: int = 200) -> dict[str, Any]:
    """Spread of every hidden layer's output, and the gradient there; in float64."""
    outputs: list[Tensor] = []
    activation = net.activation

    def recorded(x: Tensor) -> Tensor:
        outputs.append(activation(x))
        return outputs[-1]

    net.double().activation = recorded
    loss = functional.cross_entropy(net(data.x_train[:examples].double()), data.y_train[:examples])
    slopes = [float(slope.norm()) for slope in torch.autograd.grad(loss, outputs)]
    spreads = [float(output.detach().std(0, correction=0).norm()) for output in outputs]

    return {
        "layer": list(range(1, len(outputs) + 1)),
        "activations": [spread / spreads[0] for spread in spreads],
        "gradients": [slope / slopes[-1] for slope in slopes],
        "growth": (slopes[0] / slopes[-1]) ** (1 / max(1, len(slopes) - 1)),
    }


def _starts(frame: pl.DataFrame) -> pl.DataFrame:
    """The networks that are looked at."""
    return frame.filter(pl.col("lr") == 0)


def _keeps(activation: str, frame: pl.DataFrame) -> Finding:
    grown = values(_starts(frame), "growth", "batchnorm", activation=activation, gain=1.0)

    return between(
        ratio(grown), 1 - CLOSE, 1 + CLOSE, "multiplied by {} in each layer", "{:.3f}".format
    )


def _as_predicted(frame: pl.DataFrame) -> Finding:
    grown = values(_starts(frame), "growth", "batchnorm", activation="relu", gain=1.0)

    return _near(EXPLOSION, 0.03, grown, "multiplied by {} in each layer")


def _gain_is_free(frame: pl.DataFrame) -> Finding:
    start = _starts(frame)
    gains = start["gain"]
    low, high = (
        values(start, "growth", "batchnorm", gain=gain) for gain in (gains.min(), gains.max())
    )
    changes = [b / a for a, b in zip(low, high, strict=True)]

    return _near(1.0, CLOSE, changes, "{} times the factor at the highest gain")


def _near(expected: float, share: float, factors: Sequence[float], text: str) -> Finding:
    low, high = expected * (1 - share), expected * (1 + share)

    return between(ratio(factors), low, high, text, "{:.3f}".format)


def _trained(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame.filter(pl.col("lr") > 0), "lr", "loss", per=("activation", "depth"))


def _deeper(activation: str, frame: pl.DataFrame) -> Finding:
    mine = _trained(frame).filter(activation=activation)
    plain, normed = (
        [depth or 0.0 for depth in highest(mine, "depth", arm, TRAINS)]
        for arm in ("plain", "batchnorm")
    )
    ends = f"up to {max(plain):g} layers without, {max(normed):g} with it"
    found = estimate([n - p for p, n in zip(plain, normed, strict=True)])

    return above(found, 0.0, f"{ends}: {{}} more", "{:+.1f}".format)


def _too_deep(frame: pl.DataFrame) -> Finding:
    deepest = _trained(frame).filter(depth=DEEPEST)
    share = values(deepest.with_columns(trains=TRAINS.cast(pl.Float64)), "trains", "batchnorm")

    return below(estimate(share), 0.5, "{} of them train", "{:.0%}".format)


def _by_layer(curve: str, frame: pl.DataFrame) -> pl.DataFrame:
    arm = pl.col("arm").replace(EXPERIMENT.arms)
    rows = _starts(frame).explode("layer", curve)

    return rows.filter(pl.col(curve).is_between(1 / SEEN, SEEN)).select(
        "seed", "activation", "layer", curve, series=pl.format("{}, gain {}", arm, "gain")
    )


def _keep(_arm: str, settings: Mapping[str, Value]) -> bool:
    """The deepest networks are looked at, with every gain; all depths are trained from gain 1."""
    return settings["gain"] == 1 if settings["lr"] else settings["depth"] == DEEPEST


def _grid(seeds: int, steps: int, seconds: float, **settings: tuple[Value, ...]) -> Grid:
    kinds: dict[str, tuple[Value, ...]] = {"activation": tuple(ACTIVATIONS)}

    return Grid(seeds, ("digits", "usps"), {**kinds, **settings, "steps": (steps,)}, seconds)


LABELS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
EXPERIMENT = Experiment(
    name="gradient-flow",
    title="Depth",
    about="Fully connected networks of hidden layers of 32 units, with and without batch norm. "
    "First a hundred layers as they start, from normal weights of three gains (1 is what keeps "
    "the spread of activations in theory: weights of variance 1/fan-in, for ReLU 2/fan-in): how "
    "far outputs of every layer spread over 200 examples, and the size of the loss’s gradient "
    "there. Then five layers and more trained from gain 1 with minibatches of 32, each depth at "
    "the rate with the lowest training loss.",
    arms={"plain": "no norm", "batchnorm": "batch norm"},
    budgets={
        "smoke": _grid(2, 10, 2, gain=(1.0, 2.0), depth=(5, DEEPEST), lr=(0.0, 0.3)),
        "default": _grid(
            3, 100, 22, gain=(0.5, 1.0, 2.0), depth=(5, 10, 20, DEEPEST), lr=(0.0, 0.03, 0.3)
        ),
        "full": _grid(
            10,
            5000,
            16_000,
            gain=(0.5, 1.0, 2.0),
            depth=(5, 10, 20, 30, 50, 75, DEEPEST),
            lr=(0.0, 0.003, 0.01, 0.03, 0.1, 0.3),
        ),
    },
    measure_together=measure,
    together=("seed", "lr"),
    keep=_keep,
    load=partial(load, flat=True, standard=True),
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "training loss over the last tenth of the steps, relative to a constant guess",
        "layer": "hidden layers, 1 the nearest to the input",
        "activations": "spread of each layer’s outputs at the start, relative to the first’s",
        "gradients": "norm of the loss’s gradient at each layer’s outputs at the start, relative "
        "to the last layer’s",
        "growth": "factor by which the gradient’s norm changes on its way back through one layer",
    },
    questions=(
        *(
            Question(
                f"With batch norm the gradient keeps its size through a hundred {label} layers.",
                PAPER.format("section 3.3, a conjecture: singular values close to 1"),
                "holds if it changes by less than five percent in each layer",
                partial(_keeps, name),
            )
            for name, label in LABELS.items()
        ),
        Question(
            "With batch norm and ReLU the gradient explodes: by √(π/(π−1)) ≈ 1.21 in each layer.",
            YANG.format("the theorem on ReLU, for wide layers and large batches"),
            "holds if the factor lies within three percent of that",
            _as_predicted,
            "π/(π−1) in each layer for the squared norm",
        ),
        Question(
            "With batch norm the gain of the starting weights does not change the gradient’s way.",
            PAPER.format("section 3.3"),
            "holds if the factor per layer differs by less than five percent between the lowest "
            "and the highest gain",
            _gain_is_free,
        ),
        *(
            Question(
                f"With batch norm deeper {label} networks train.",
                PAPER.format("section 1, of saturating nonlinearities; section 3.3"),
                "holds if the greatest depth that ends below half the loss of a constant guess is "
                "greater with it; 0 where no depth does",
                partial(_deeper, name),
            )
            for name, label in LABELS.items()
        ),
        Question(
            "With batch norm, without shortcuts, networks of 100 layers do not train.",
            YANG.format("abstract"),
            "holds if less than half of them end below half the loss of a constant guess",
            _too_deep,
            "ReLU networks of more than about 50 layers did not, on MNIST",
        ),
    ),
    charts=(
        Chart(
            "gradients",
            "Gradients by depth",
            "From right to left the gradient goes back through the layers, at the start. A line "
            "that rises to the left explodes, one that falls vanishes; beyond 10¹⁵ none is drawn.",
            "lines",
            Axis("layer", "hidden layer"),
            Axis("gradients", "gradient, relative to the last layer", "log", ".0e"),
            colour="series",
            columns="activation",
            rows=partial(_by_layer, "gradients"),
        ),
        Chart(
            "depth",
            "How deep still trains",
            "Each point at the learning rate with the lowest training loss.",
            "lines",
            Axis("depth", "hidden layers", "log"),
            Axis("accuracy", "test accuracy", format=".0%", domain=(0.0, 1.0)),
            columns="activation",
            rows=_trained,
        ),
        Chart(
            "activations",
            "Activations by depth",
            "How far each layer’s outputs spread over examples, at the start.",
            "lines",
            Axis("layer", "hidden layer"),
            Axis("activations", "spread, relative to the first layer", "log", ".0e"),
            colour="series",
            columns="activation",
            rows=partial(_by_layer, "activations"),
        ),
    ),
)
