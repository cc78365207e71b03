"""A run is repeatable, records what it says, and starts all arms alike."""

import math

import numpy as np
import pytest
import torch

from batchnorm.lab.models import ARMS
from batchnorm.lab.training import (
    _evaluate,
    _movement,
    _network,
    evaluation_steps,
    train,
)
from tests.lab.small import random_data, trial

DATA = random_data()


def same(a, b) -> bool:
    return all(
        getattr(a, name) == getattr(b, name) for name in a.__dataclass_fields__ if name != "step_ms"
    )


@pytest.mark.parametrize("arm", ARMS)
def test_same_seed_gives_the_same_bits(arm: str):
    first = train(trial(arm=arm), DATA)
    torch.rand(3)  # the global generator has no say

    assert same(first, train(trial(arm=arm), DATA))


def test_other_seed_gives_another_run():
    assert train(trial(), DATA).losses != train(trial(seed=1), DATA).losses


def test_first_loss_is_that_of_the_starting_network():
    config = trial()
    order = torch.randperm(130, generator=torch.Generator().manual_seed(config.seed))[:60]

    loss = torch.nn.functional.cross_entropy(
        _network(config, DATA)(DATA.x_train[order]), DATA.y_train[order]
    )

    assert train(config, DATA).losses[0] == loss.item()


def test_our_layer_and_torchs_start_alike():
    ours, torchs = (train(trial(arm=arm), DATA).losses for arm in ("batchnorm", "torch"))

    # The forward pass of three layers: a few roundings of the loss.
    assert ours[0] == pytest.approx(torchs[0], rel=32 * torch.finfo(torch.float32).eps)


def test_nudged_run_differs_by_a_rounding():
    plain, nudged = (train(trial(arm="torch", nudged=n), DATA).losses for n in (False, True))

    assert plain != nudged
    assert plain[0] == pytest.approx(nudged[0], rel=1e4 * torch.finfo(torch.float32).eps)


def test_percentiles_are_those_of_the_last_hidden_input():
    net = _network(trial(), DATA)

    accuracy, percentiles = _evaluate(net, DATA)

    net.eval()
    with torch.no_grad():
        entering = np.sort(net.last_input(DATA.x_test).numpy(), axis=0)
        right = net(DATA.x_test).argmax(1) == DATA.y_test
    # Linear interpolation between order statistics, written out.
    for row, share in zip(percentiles, (0.15, 0.50, 0.85), strict=True):
        place = share * (len(entering) - 1)
        low, part = math.floor(place), place - math.floor(place)
        expected = (1 - part) * entering[low] + part * entering[low + 1]
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-7)
    assert accuracy == right.double().mean().item()


def test_evaluation_uses_running_statistics_and_leaves_them():
    net = _network(trial(), DATA)
    before = net.norms[0].running_mean.clone()

    _evaluate(net, DATA)

    assert torch.equal(net.norms[0].running_mean, before)
    assert net.training


def test_movement_in_closed_form():
    # One unit, the median at 2 then 0, the width at 8 then 2: shift 2/2 and 0, stretch 2 and 0.
    percentiles = np.array([[[-2.0], [2.0], [6.0]], [[-1.0], [0.0], [1.0]]])

    assert _movement(percentiles) == (0.5, 1.0)


def test_evaluation_steps():
    assert evaluation_steps(600, 3)[-3:] == [200, 400, 600]
    assert evaluation_steps(600, 1) == [600]
    assert evaluation_steps(3, 3) == [1, 2, 3]
    assert train(trial(steps=30, evaluations=3), DATA).at == evaluation_steps(30, 3)


def test_diverged_run_says_so():
    result = train(trial(arm="plain", lr=1e38, steps=50), DATA)

    assert math.isinf(result.loss)
    assert len(result.losses) < 20
    assert math.isinf(result.shift)


def test_final_loss_is_the_mean_of_the_last_tenth():
    result = train(trial(steps=20, early_losses=20), DATA)

    assert result.loss == pytest.approx(np.mean(result.losses[-2:]))
