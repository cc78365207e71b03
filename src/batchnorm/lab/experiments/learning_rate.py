"""Learning rates: the highest that trains, what the choice costs, and the scale of the weights."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._ending import MEASURED, train
from .._experiment import Experiment, Grid
from .._trial import Trial
from ..data import Dataset, load
from ..models import Mlp
from ._learning_rate_claims import CHARTS, QUESTIONS

__all__ = ["EXPERIMENT", "measure"]

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}
FACTORS = (0.1, 10.0, 100.0)


def measure(trials: Sequence[Trial], data: Dataset) -> list[dict[str, Any]]:
    """Train networks that differ in seed and rate."""
    nets = [_net(trial, data) for trial in trials]
    changes = [_scaled(net, data.x_train[:200], data.y_train[:200]) for net in nets]
    trained = train(trials, nets, data)

    return [
        found
        | {
            "factor": list(FACTORS),
            "moved": [moved for moved, _ in change],
            "bent": [bent for _, bent in change],
        }
        for found, change in zip(trained, changes, strict=True)
    ]


def _net(trial: Trial, data: Dataset) -> Mlp:
    norm = batchnorm.BatchNorm1d if trial.arm == "batchnorm" else None
    activation = ACTIVATIONS[trial["activation"]]

    return Mlp(data.features, data.classes, norm, seed=trial.seed, activation=activation)


def _scaled(net: Mlp, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
    """Relative change of the outputs, and of the gradient times the factor, for each factor."""
    changes = []
    net, x = copy.deepcopy(net).double(), x.double()
    outputs, slopes = _look(net, x, y)
    for scale in FACTORS:
        larger = copy.deepcopy(net)
        with torch.no_grad():
            for weight in _weights(larger):
                weight.mul_(scale)
        moved, bent = _look(larger, x, y)
        changes.append((_distance(moved, outputs), _distance(scale * bent, slopes)))

    return changes


def _look(net: Mlp, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs, and the gradient of all hidden weights as one vector."""
    outputs = net(x)
    slopes = torch.autograd.grad(functional.cross_entropy(outputs, y), _weights(net))

    return outputs.detach(), torch.cat([slope.flatten() for slope in slopes])


def _weights(net: Mlp) -> list[nn.Parameter]:
    return [net.get_parameter(f"linears.{place}.weight") for place in range(len(net.linears))]


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _grid(seeds: int, steps: int, rates: tuple[float, ...], seconds: float, *data: str) -> Grid:
    return Grid(
        seeds, data, {"activation": tuple(ACTIVATIONS), "lr": rates, "steps": (steps,)}, seconds
    )


RATES = tuple(2.0**k for k in range(-5, 6))
EXPERIMENT = Experiment(
    name="learning-rate",
    title="Learning rates",
    about="A fully connected network of three hidden layers of 100 units with and without batch "
    "norm, from the same weights, at rates from far too low to far too high. Inputs are "
    "standardised, as is good for the network without it. Apart from that, hidden weights are "
    "multiplied by a factor before training, to see what that does to outputs and gradients.",
    arms={"plain": "no norm", "batchnorm": "batch norm"},
    budgets={
        "smoke": _grid(3, 30, (0.1, 1.0, 10.0), 2, "digits"),
        "default": _grid(5, 250, RATES, 50, "digits", "usps"),
        "full": _grid(10, 10_000, RATES, 3_700, "digits", "usps", "mnist"),
    },
    measure_together=measure,
    together=("seed", "lr"),
    load=partial(load, flat=True, standard=True),
    measured={
        **MEASURED,
        "factor": "what all hidden weights are multiplied by before training",
        "moved": "change of the outputs by each factor, relative to their norm, in training mode",
        "bent": "change of the hidden weights’ gradient times each factor, relative to its norm",
    },
    questions=QUESTIONS,
    charts=CHARTS,
)
