"""Planted rates are found, and the factor on the weights does what algebra says."""

import math

import pytest
import torch

import batchnorm
from batchnorm.lab.experiments.learning_rate import EXPERIMENT, FACTORS, _scaled
from batchnorm.lab.models import Mlp
from tests.lab.experiments.planted import finding, verdict

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SEEDS = (0, 1, 2)


def rows(plain, normed, activation="relu"):
    """A row for each seed, arm and rate; of an arm, (lowest, highest) that trains, by seed."""
    for arm, ends in (("plain", plain), ("batchnorm", normed)):
        for seed in SEEDS:
            for lr in RATES:
                low, high = ends[seed]
                trains = low <= lr <= high
                yield {
                    "arm": arm,
                    "seed": seed,
                    "activation": activation,
                    "lr": lr,
                    "loss": 0.1 if trains else math.inf,
                    "accuracy": 0.9 + 0.001 * seed if trains else 0.1,
                }


@pytest.mark.parametrize(
    ("plain", "normed", "expected"),
    [
        ([(0.25, 0.5)] * 3, [(0.25, 8.0)] * 3, "holds"),
        ([(0.25, 8.0)] * 3, [(0.25, 0.5)] * 3, "fails"),
        # One step of the grid: where in it the border lies nobody has seen.
        ([(0.25, 0.5)] * 3, [(0.25, 1.0)] * 3, "undecided"),
        ([(9.0, 9.0), (0.25, 0.5), (0.25, 0.5)], [(0.25, 8.0)] * 3, "undecided"),
    ],
)
def test_highest_rate(plain, normed, expected):
    assert verdict(EXPERIMENT, "ReLU network trains", rows(plain, normed)) == expected


def test_ratio_of_the_highest_rates():
    found = finding(EXPERIMENT, "ReLU network trains", rows([(0.25, 0.5)] * 3, [(0.25, 8.0)] * 3))

    assert found.effect.mean == pytest.approx(16)
    assert found.effect.low == pytest.approx(8)


@pytest.mark.parametrize(
    ("plain", "normed", "expected"),
    [
        ([(0.25, 0.5)] * 3, [(0.25, 8.0)] * 3, "holds"),
        ([(0.25, 8.0)] * 3, [(1.0, 2.0)] * 3, "fails"),
        ([(0.25, 1.0), (0.25, 4.0), (0.25, 1.0)], [(0.25, 2.0)] * 3, "undecided"),
    ],
)
def test_width_of_the_range(plain, normed, expected):
    assert verdict(EXPERIMENT, "rate of a ReLU network matters", rows(plain, normed)) == expected


def test_an_arm_that_never_trains_has_no_range():
    found = finding(
        EXPERIMENT, "rate of a ReLU network matters", rows([(9, 9)] * 3, [(0.25, 0.5)] * 3)
    )

    assert found.effect.mean == pytest.approx(2 * math.log10(2))


def test_each_arm_is_judged_at_its_best_rate():
    same = [(0.25, 1.0)] * 3

    assert verdict(EXPERIMENT, "a ReLU network ends more", rows(same, same)) == "undecided"
    better = [
        row | {"accuracy": 0.95 + 0.001 * row["seed"]} if row["arm"] == "batchnorm" else row
        for row in rows(same, same)
    ]
    assert verdict(EXPERIMENT, "a ReLU network ends more", better) == "holds"


@pytest.mark.parametrize("words", ["same function", "smaller gradients"])
@pytest.mark.parametrize(("change", "expected"), [(1e-4, "holds"), (0.5, "fails")])
def test_scale_is_judged_at_the_largest_factor(words, change, expected):
    curve = {"moved": [9.0, 9.0, change], "bent": [9.0, 9.0, change]}
    trials = [{"arm": "batchnorm", "seed": seed, **curve} for seed in SEEDS]

    assert verdict(EXPERIMENT, words, trials) == expected


def examples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(60, 7, generator=generator), torch.arange(60) % 3


def test_without_norm_three_relu_layers_multiply_the_outputs_by_the_cube():
    net = Mlp(7, 3, None, seed=0, hidden=8, activation=torch.relu)

    moved = [moved for moved, _ in _scaled(net, *examples())]

    assert moved == pytest.approx([abs(factor**3 - 1) for factor in FACTORS])


def test_with_batch_norm_only_eps_is_left():
    def norm(eps):
        return lambda channels: batchnorm.BatchNorm1d(channels, eps=eps)

    exact, usual = (
        _scaled(Mlp(7, 3, norm(eps), seed=0, hidden=8), *examples()) for eps in (1e-30, 1e-5)
    )

    assert all(value < 1e-12 for pair in exact for value in pair)
    assert usual[0] > usual[1] > exact[1]
    assert all(value < 1e-3 for value in usual[1])
