"""The reference's activations and written-out derivatives against torch's."""

import dataclasses

import pytest
import torch

from batchnorm import reference
from tests.activations import ACTS
from tests.calls import train
from tests.cases import make_case

POINTS = [-1e3, -20.0, -6.0, -3.0, -2.9, -1.0, -1e-3, 0.0, 1e-3, 0.5, 2.9, 3.0, 5.9, 6.0, 7.0, 1e3]


def through(act, x):
    """act(x) by the reference: statistics that change nothing, so that x reaches act itself."""
    zeros, ones = torch.zeros(1, dtype=x.dtype), torch.ones(1, dtype=x.dtype)
    args = (None, None, None, None, act.code, act.slope)
    return reference.batch_norm_apply(x, zeros, ones, *args)


def derivative(act, x):
    zeros, ones = torch.zeros(1, dtype=x.dtype), torch.ones(1, dtype=x.dtype)
    args = (None, None, zeros, ones, None, None, None, act.code, act.slope, False)
    return reference.batch_norm_eval_backward(torch.ones_like(x), x, *args)[0]


@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_activation_equals_torch(act):
    x = torch.tensor(POINTS, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(through(act, x), act(x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_derivative_equals_torch_also_at_kinks(act):
    x = torch.tensor(POINTS, dtype=torch.float64).unsqueeze(1).requires_grad_()
    (want,) = torch.autograd.grad(act(x).sum(), x)
    torch.testing.assert_close(derivative(act, x.detach()), want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_nan_comes_through_as_in_torch(act):
    x = torch.tensor([[float("nan")]], dtype=torch.float64)
    assert through(act, x).isnan().all() == act(x).isnan().all()


def test_the_codes_are_those_of_the_public_names():
    from batchnorm._types import Activation

    assert {a.name.lower(): int(a) for a in Activation} == {n: a.code for n, a in ACTS.items()}


@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_every_activation_reaches_the_fused_forward(act):
    case = make_case((6, 3), torch.float64, form="act", act=act.name)
    plain = dataclasses.replace(case, act=ACTS["identity"])
    pre = train(reference, plain).output
    torch.testing.assert_close(train(reference, case).output, act(pre), rtol=1e-14, atol=1e-14)
