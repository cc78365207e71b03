"""The network is the paper's: three sigmoid layers, the norm before each, no norm at the end."""

import pytest
import torch
from torch import nn

import batchnorm
from batchnorm.lab.models import ARMS, SigmoidNet


def net(arm: str, **options: object) -> SigmoidNet:
    options = {"seed": 1, "hidden": 7} | options
    return SigmoidNet(5, 3, ARMS[arm].norm, **options)  # type: ignore[arg-type]


def test_arms_hold_our_layer_and_torchs():
    assert [type(norm) for norm in net("plain").norms] == [nn.Identity] * 3
    assert [type(norm) for norm in net("torch").norms] == [nn.BatchNorm1d] * 3
    assert [type(norm) for norm in net("batchnorm").norms] == [batchnorm.BatchNorm1d] * 3


@pytest.mark.parametrize("arm", ARMS)
def test_norm_replaces_the_hidden_bias_only(arm: str):
    model = net(arm)

    assert [linear.bias is None for linear in model.linears] == [arm != "plain"] * 3
    assert model.head.bias is not None


def test_weights_depend_on_the_seed_and_not_on_the_arm():
    plain, ours, other = net("plain"), net("batchnorm"), net("plain", seed=2)

    for a, b, c in zip(plain.linears, ours.linears, other.linears, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)


def test_weights_have_the_asked_spread():
    weight = SigmoidNet(300, 3, None, seed=0, hidden=400, weight_std=0.1).linears[0].weight

    # The deviation of n Gaussians has a standard error of 1/√(2n).
    assert weight.std().item() == pytest.approx(0.1, rel=5 / (2 * weight.numel()) ** 0.5)
    assert weight.mean().item() == pytest.approx(0, abs=5 * 0.1 / weight.numel() ** 0.5)


def test_global_generator_is_left_alone():
    before = torch.get_rng_state()
    net("batchnorm")

    assert torch.equal(torch.get_rng_state(), before)


def test_forward_is_the_equation_written_out():
    model = net("torch").double().eval()
    x = torch.randn(4, 5, dtype=torch.float64)

    y = x
    for linear, norm in zip(model.linears, model.norms, strict=True):
        u = y @ linear.weight.T
        y = 1 / (1 + torch.exp(-(u - norm.running_mean) / (norm.running_var + norm.eps).sqrt()))
    expected = y @ model.head.weight.T + model.head.bias

    torch.testing.assert_close(model(x), expected)
