"""Depth: how activations and gradients change from layer to layer, and how deep still trains."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._ending import MEASURED, train
from .._experiment import Experiment, Grid
from .._trial import Trial, Value
from ..data import Dataset, load
from ..models import Mlp
from ._gradient_flow_claims import ARMS, CHARTS, DEEPEST, QUESTIONS

__all__ = ["EXPERIMENT", "measure"]

WIDTH, BATCH = 32, 32
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
    nets = [_net(trial, data) for trial in trained]
    ends = iter(train(trained, nets, data, batch_size=BATCH) if trained else ())

    return [next(ends) if trial["lr"] else _flow(_net(trial, data), data) for trial in trials]


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


def _keep(_arm: str, settings: Mapping[str, Value]) -> bool:
    """The deepest networks are looked at, with every gain; all depths are trained from gain 1."""
    return settings["gain"] == 1 if settings["lr"] else settings["depth"] == DEEPEST


def _grid(seeds: int, steps: int, seconds: float, **settings: tuple[Value, ...]) -> Grid:
    kinds: dict[str, tuple[Value, ...]] = {"activation": tuple(ACTIVATIONS)}

    return Grid(seeds, ("digits", "usps"), {**kinds, **settings, "steps": (steps,)}, seconds)


EXPERIMENT = Experiment(
    name="gradient-flow",
    title="Depth",
    about="Fully connected networks of hidden layers of 32 units, with and without batch norm. "
    "First a hundred layers as they start, from normal weights of three gains (1 is what keeps "
    "the spread of activations in theory: weights of variance 1/fan-in, for ReLU 2/fan-in): how "
    "far outputs of every layer spread over 200 examples, and the size of the loss’s gradient "
    "there. Then five layers and more trained from gain 1 with minibatches of 32, each depth at "
    "the rate with the lowest training loss.",
    arms=ARMS,
    budgets={
        "smoke": _grid(2, 10, 2, gain=(1.0, 2.0), depth=(5, DEEPEST), lr=(0.0, 0.3)),
        "default": _grid(
            3, 100, 31, gain=(0.5, 1.0, 2.0), depth=(5, 10, 20, DEEPEST), lr=(0.0, 0.03, 0.3)
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
        **MEASURED,
        "layer": "hidden layers, 1 the nearest to the input",
        "activations": "spread of each layer’s outputs at the start, relative to the first’s",
        "gradients": "norm of the loss’s gradient at each layer’s outputs at the start, relative "
        "to the last layer’s",
        "growth": "factor by which the gradient’s norm changes on its way back through one layer",
    },
    questions=QUESTIONS,
    charts=CHARTS,
)
