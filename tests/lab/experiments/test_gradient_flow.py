"""Gradients grow as theory says for wide layers; planted trials give the planted verdicts."""

import itertools
import math

import pytest
import torch

from batchnorm.lab import Trial
from batchnorm.lab.experiments import gradient_flow
from batchnorm.lab.experiments._gradient_flow_claims import EXPLOSION
from batchnorm.lab.experiments.gradient_flow import EXPERIMENT, _flow, _net, measure
from tests.lab.experiments.planted import finding, verdict
from tests.lab.small import random_data

SEEDS = (0, 1, 2)
DATA = random_data(train=260, features=30)


def trial(arm, activation, *, gain=1.0, depth=10, lr=0.0, seed=0):
    settings = {"activation": activation, "gain": gain, "depth": depth, "lr": lr, "steps": 2}
    return Trial("gradient-flow", arm, "random", "", seed, settings)


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr(gradient_flow, "WIDTH", 256)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(("gain", "expected"), [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0)])
def test_without_norm_relu_gradients_are_multiplied_by_the_gain(gain, expected):
    found = _flow(_net(trial("plain", "relu", gain=gain), DATA), DATA)

    assert found["growth"] == pytest.approx(expected, rel=0.05)
    shrunk = found["activations"][-1] / found["activations"][0]
    assert shrunk < 1 if gain < 1 else shrunk > 0.1


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_with_batch_norm_relu_gradients_explode_whatever_the_gain(gain):
    found = _flow(_net(trial("batchnorm", "relu", gain=gain), DATA), DATA)

    assert found["growth"] == pytest.approx(EXPLOSION, rel=0.03)
    assert found["gradients"][-1] == 1
    assert found["growth"] ** 9 == pytest.approx(found["gradients"][0])
    assert found["layer"] == list(range(1, 11))


def test_gradients_are_those_at_the_layers_outputs():
    net = _net(trial("plain", "tanh", depth=2), DATA)
    found = _flow(net, DATA, examples=50)

    x, y = DATA.x_train[:50].double(), DATA.y_train[:50]
    first = torch.tanh(net.linears[0](x)).detach().requires_grad_()
    second = torch.tanh(net.linears[1](first))
    second.retain_grad()
    torch.nn.functional.cross_entropy(net.head(second), y).backward()
    assert found["gradients"] == pytest.approx([float(first.grad.norm() / second.grad.norm()), 1.0])
    spreads = [float(h.detach().std(0, correction=0).norm()) for h in (first, second)]
    assert found["activations"] == pytest.approx([1.0, spreads[1] / spreads[0]])


def test_networks_are_looked_at_and_trained_side_by_side():
    looked, trained = measure([trial("plain", "relu"), trial("plain", "relu", lr=0.1)], DATA)

    assert set(looked) == {"layer", "activations", "gradients", "growth"}
    assert set(trained) == {"accuracy", "loss"}


def starts(growth, spread=0.001):
    """How networks start: by activation, the growth per layer with batch norm at each gain."""
    for (activation, factors), seed in itertools.product(growth.items(), SEEDS):
        for gain, factor in zip((0.5, 1.0, 2.0), factors, strict=True):
            row = {"arm": "batchnorm", "seed": seed, "activation": activation, "gain": gain}
            yield row | {"depth": 100, "lr": 0.0, "growth": factor + spread * seed, "loss": None}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, "holds"), (1.02, "fails"), (0.25, "fails"), (2**0.01, "undecided")],
)
def test_gradient_keeps_its_size(factor, expected):
    planted = starts({"tanh": (factor,) * 3})

    assert verdict(EXPERIMENT, "through a hundred tanh", planted) == expected


@pytest.mark.parametrize(("factor", "expected"), [(EXPLOSION, "holds"), (1.1, "fails")])
def test_explosion_is_the_predicted_one(factor, expected):
    assert verdict(EXPERIMENT, "explodes", starts({"relu": (factor,) * 3})) == expected


@pytest.mark.parametrize(
    ("factors", "expected"), [((1.2, 1.2, 1.2), "holds"), ((0.5, 1.0, 2.0), "fails")]
)
def test_gain_changes_nothing(factors, expected):
    planted = list(starts({"relu": factors}))

    assert verdict(EXPERIMENT, "gain of the starting weights", planted) == expected


def trained(depths, deepest=100):
    """Trained networks: by arm the greatest depth that trains, at the better rate of two."""
    for (arm, greatest), seed, depth, lr in itertools.product(
        depths.items(), SEEDS, (5, 10, 20, deepest), (0.1, 1.0)
    ):
        trains = depth <= greatest and lr == 0.1
        row = {"arm": arm, "seed": seed, "activation": "tanh", "gain": 1.0, "depth": depth}
        loss = 0.1 if trains else math.inf
        yield row | {"lr": lr, "steps": 100, "loss": loss, "growth": None}


@pytest.mark.parametrize(
    ("plain", "normed", "expected", "more"),
    [
        (5, 20, "holds", 15),
        (0, 10, "holds", 10),
        (20, 5, "fails", -15),
        (10, 10, "undecided", 0),
        (0, 0, "undecided", 0),
    ],
)
def test_greatest_depth(plain, normed, expected, more):
    found = finding(EXPERIMENT, "deeper tanh", trained({"plain": plain, "batchnorm": normed}))

    assert (found.verdict, found.effect.mean) == (expected, more)


@pytest.mark.parametrize(("greatest", "expected"), [(20, "holds"), (100, "fails")])
def test_a_hundred_layers(greatest, expected):
    three = list(trained({"plain": 5, "batchnorm": greatest}))
    nine = [row | {"seed": row["seed"] + more} for more in (0, 3, 6) for row in three]

    assert verdict(EXPERIMENT, "do not train", three) == "undecided"
    assert verdict(EXPERIMENT, "do not train", nine) == expected
