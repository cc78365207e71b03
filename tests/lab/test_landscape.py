"""Slopes and their changes, against functions whose derivatives are known."""

import math

import pytest
import torch
from torch import nn

from batchnorm.lab._landscape import along_gradient, gradient_shift


def test_a_parabola_is_as_smooth_as_its_curvature():
    parameters = [nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([[4.0], [0.0]]))]

    def loss():
        return sum(1.5 * p.square().sum() for p in parameters)

    found = along_gradient(loss, parameters, (0.1, 0.2))

    # Gradient 3p, of length 15; a step of 0.2 gradients leaves 0.4 p.
    assert found.loss_range == pytest.approx(1.5 * 25 * (1 - 0.4**2))
    assert found.gradient_change == pytest.approx(3 * 0.2 * 15)
    assert found.smoothness == pytest.approx(3)
    assert parameters[0].item() == 3
    assert parameters[1].flatten().tolist() == [4, 0]


def test_a_line_changes_nothing_but_the_loss():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))

    found = along_gradient(lambda: 5 * parameter.sum(), [parameter], (1.0, 2.0))

    assert found.loss_range == pytest.approx(2 * 50)
    assert (found.gradient_change, found.smoothness) == (0, 0)


def test_shift_is_that_of_the_layers_before():
    a, b, c = (nn.Parameter(torch.tensor([value])) for value in (2.0, 3.0, 0.5))

    def loss():
        return (a * b * c).sum()

    second, third = gradient_shift(loss, [[a], [b], [c]], lr=0.1)

    # Gradients bc, ac, ab = 1.5, 1, 6; the updates make a = 1.85, then b = 2.9.
    assert second.change == pytest.approx((2 - 1.85) / 2)
    assert third.change == pytest.approx((6 - 1.85 * 2.9) / 6)
    assert (second.cosine, third.cosine) == pytest.approx((1, 1))
    assert [p.item() for p in (a, b, c)] == [2, 3, 0.5]


def test_a_gradient_that_turns_has_its_cosine():
    first, second = nn.Parameter(torch.tensor([0.0])), nn.Parameter(torch.tensor([0.0, 0.0]))

    def loss():
        return first.sum() + second[0] - 10 * (first * second[1]).sum()

    (shift,) = gradient_shift(loss, [[first], [second]], lr=0.1)

    # From (1, 0) to (1, 1).
    assert shift.change == pytest.approx(1)
    assert shift.cosine == pytest.approx(math.sqrt(0.5))


def test_parameters_return_when_the_loss_raises():
    parameter = nn.Parameter(torch.tensor([1.0]))

    def loss():
        if parameter.item() != 1:
            raise RuntimeError("cannot")
        return parameter.square().sum()

    with pytest.raises(RuntimeError, match="cannot"):
        along_gradient(loss, [parameter], (0.5,))

    assert parameter.item() == 1
