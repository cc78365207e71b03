"""Training does what its arguments say, and the same again from the same seed."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from batchnorm.lab._fit import accuracy, final, fit, minibatches, predictions
from tests.lab.small import random_data

DATA = random_data()


def network(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(DATA.features, DATA.classes)


def trained(**options):
    net = network()
    losses = fit(net, DATA, **({"lr": 0.5, "steps": 4, "seed": 1, "batch_size": 20} | options))

    return net, losses


def test_a_step_is_that_of_the_equation():
    net, (loss,) = trained(steps=1)
    start, chosen = network(), next(minibatches(len(DATA.x_train), 20, 1))
    expected = functional.cross_entropy(start(DATA.x_train[chosen]), DATA.y_train[chosen])
    expected.backward()

    assert loss == expected.item()
    assert torch.equal(net.weight, start.weight - 0.5 * start.weight.grad)


def test_schedule_multiplies_the_rate_of_every_step():
    shares = []

    def first_half(share):
        shares.append(share)
        return 1.0 if share < 0.5 else 0.0

    stopped, _ = trained(schedule=first_half)
    short, _ = trained(steps=2)

    assert shares == [0, 0.25, 0.5, 0.75]
    assert torch.equal(stopped.weight, short.weight)


def test_augmentation_changes_what_is_trained_on_the_same_way_from_the_same_seed():
    def noise(x, chance):
        return x + torch.randn(x.shape, generator=chance)

    plain, once, again = trained()[1], trained(augment=noise)[1], trained(augment=noise)[1]

    assert once == again != plain
    assert trained(augment=lambda x, _: x)[1] == plain


def test_loss_of_ones_own():
    values = replace(DATA, y_train=DATA.x_train[:, :1].repeat(1, DATA.classes))

    losses = fit(
        network(), values, lr=0.1, steps=50, seed=0, batch_size=20, loss=functional.mse_loss
    )

    assert losses[-1] < losses[0] / 2


def test_a_run_that_is_not_finite_stops():
    _, losses = trained(lr=math.inf, steps=9)

    assert len(losses) < 9
    assert not math.isfinite(losses[-1])


@pytest.mark.parametrize(
    ("losses", "steps", "expected"),
    [
        ([9.0] * 18 + [1.0, 3.0], 20, 2.0),
        ([5.0, 4.0], 2, 4.0),
        ([1.0, math.nan], 2, math.inf),
        ([1.0], 2, math.inf),
        ([], 2, math.inf),
    ],
)
def test_final_loss_is_the_mean_of_the_last_tenth_of_a_whole_run(losses, steps, expected):
    assert final(losses, steps) == expected


class LengthOnly(nn.Module):
    """Names every sequence by its length."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, lengths):
        assert len(x) == len(lengths)
        return self.scale * functional.one_hot(lengths, DATA.classes).float()


def test_lengths_reach_the_network_beside_their_sequences():
    data = replace(DATA, lengths_train=DATA.y_train, lengths_test=DATA.y_test)
    net = LengthOnly()
    (loss,) = fit(net, data, lr=0.0, steps=1, seed=0, batch_size=20)

    assert accuracy(net, data) == 1
    assert loss == pytest.approx(math.log(math.e + DATA.classes - 1) - 1)


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_those_of_eval_mode_in_order(training):
    net = nn.Sequential(network(), nn.Dropout(0.5)).train(training)

    found = predictions(net, DATA, batch_size=7)

    torch.testing.assert_close(found, net[0](DATA.x_test))
    assert net.training is training


def test_predictions_restore_the_mode_when_the_network_raises():
    net = nn.Sequential(nn.Linear(DATA.features + 1, DATA.classes))

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        predictions(net, DATA)
    assert net.training
