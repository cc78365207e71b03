"""What a trained network is reported by."""

import math

import polars as pl
import pytest
import torch

from batchnorm.lab import Trial, accuracy, fit
from batchnorm.lab._ending import MEASURED, TRAINS, ending, train
from batchnorm.lab.models import Mlp
from tests.lab.small import random_data
from tests.tolerance import ulp

DATA = random_data()
STEPS = 12


def net(seed):
    return Mlp(DATA.features, DATA.classes, None, seed=seed, hidden=12, activation=torch.relu)


def trial(seed, lr):
    return Trial("made up", "plain", "random", "d", seed, {"lr": lr, "steps": STEPS})


def test_loss_is_relative_to_a_constant_guess():
    found = ending(net(0), DATA, [9.0] * 10 + [DATA.constant_loss / 4] * 2, 12)

    assert set(found) == set(MEASURED)
    assert found == {"accuracy": accuracy(net(0), DATA), "loss": pytest.approx(0.25)}


def test_networks_train_at_their_own_rate_from_their_own_seed():
    trials = [trial(0, 0.1), trial(1, 0.5), trial(2, 1e38)]

    found = train(trials, [net(each.seed) for each in trials], DATA, batch_size=20)

    for each, ends in zip(trials[:2], found, strict=False):
        single = net(each.seed)
        losses = fit(single, DATA, lr=each["lr"], steps=STEPS, seed=each.seed, batch_size=20)
        expected = ending(single, DATA, losses, STEPS)
        assert ends["loss"] == pytest.approx(expected["loss"], rel=100 * STEPS * ulp(torch.float32))
        assert ends["accuracy"] == pytest.approx(expected["accuracy"], abs=1 / len(DATA.y_test))
    assert found[2]["loss"] == math.inf


def test_a_network_trains_that_ends_below_half_a_constant_guess():
    rows = pl.DataFrame({"loss": [0.49, 0.5, math.inf]})

    assert rows.select(trains=TRAINS)["trains"].to_list() == [True, False, False]
