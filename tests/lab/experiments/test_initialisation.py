"""Starting weights are what their names say; planted accuracies give the planted verdicts."""

import itertools

import pytest
import torch

from batchnorm.lab import Trial
from batchnorm.lab.experiments.initialisation import DEPTH, EXPERIMENT, SCHEMES, WIDTH, _net
from tests.lab.experiments.planted import finding, verdict
from tests.lab.small import random_data

SCALES = (0.1, 1.0, 10.0)
SEEDS = (0, 1, 2)


def rows(plain, normed, scheme_step=0.0):
    """A trial for everything: the accuracy at each scale by arm; below 0.5 it did not train."""
    for arm, accuracies in (("plain", plain), ("batchnorm", normed)):
        for seed, (place, scheme), (scale, found), lr in itertools.product(
            SEEDS, enumerate(SCHEMES), zip(SCALES, accuracies, strict=True), (0.1, 1.0)
        ):
            yield {
                "arm": arm,
                "seed": seed,
                "scheme": scheme,
                "scale": scale,
                "lr": lr,
                # The lower rate is the better one by training loss and by accuracy.
                "loss": (0.1 if found > 0.5 else 1.0) * (1 + lr),
                "accuracy": found + 0.001 * seed + scheme_step * place - 0.3 * (lr > 0.5),
            }


@pytest.mark.parametrize(
    ("plain", "normed", "expected", "decades"),
    [
        ((0.1, 0.9, 0.1), (0.9, 0.9, 0.9), "holds", 2),
        ((0.9, 0.9, 0.1), (0.1, 0.9, 0.1), "fails", -1),
        ((0.1, 0.9, 0.1), (0.1, 0.9, 0.1), "undecided", 0),
    ],
)
def test_range_of_scales(plain, normed, expected, decades):
    found = finding(EXPERIMENT, "wider range", rows(plain, normed))

    assert found.verdict == expected
    assert found.effect.mean == pytest.approx(decades)


@pytest.mark.parametrize(
    ("normed", "expected"), [((0.9, 0.92, 0.91), "holds"), ((0.9, 0.92, 0.7), "fails")]
)
def test_scale_costs_accuracy(normed, expected):
    assert verdict(EXPERIMENT, "starting scale costs", rows((0.1, 0.1, 0.1), normed)) == expected


@pytest.mark.parametrize(("step", "expected"), [(0.005, "holds"), (0.05, "fails")])
def test_scheme_matters(step, expected):
    planted = rows((0.1, 0.1, 0.1), (0.8, 0.8, 0.8), scheme_step=step)

    assert verdict(EXPERIMENT, "scheme does not matter", planted) == expected


@pytest.mark.parametrize(("plain", "expected"), [(0.9, "holds"), (0.8, "fails"), (0.97, "fails")])
def test_start_is_enough(plain, expected):
    planted = rows((0.1, plain, 0.1), (0.9, 0.9, 0.9))

    assert verdict(EXPERIMENT, "starts right", planted) == expected


@pytest.mark.parametrize("arm", EXPERIMENT.arms)
@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("he", (2 / WIDTH) ** 0.5),
        ("glorot", (1 / WIDTH) ** 0.5),
        ("orthogonal", (2 / WIDTH) ** 0.5),
    ],
)
def test_spread_of_the_starting_weights(arm, scheme, expected):
    net = _net(
        Trial("initialisation", arm, "random", "", 0, {"scheme": scheme, "scale": 3.0}),
        random_data(),
    )
    hidden = torch.cat([linear.weight.detach().flatten() for linear in net.linears[1:]])

    assert len(net.linears) == DEPTH
    # 4 · 64² numbers: their spread is known to a percent.
    assert float(hidden.std(correction=0)) == pytest.approx(3 * expected, rel=0.03)


def test_orthogonal_weights_are():
    net = _net(
        Trial("initialisation", "plain", "random", "", 0, {"scheme": "orthogonal", "scale": 1.0}),
        random_data(),
    )
    weight = net.linears[1].weight.detach()

    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(WIDTH))
