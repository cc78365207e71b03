"""Mistakes that others have published."""

import inspect

import pytest
import torch
from torch import nn

import batchnorm as bn

OPEN = {"r_max": 3.0, "d_max": 5.0}


def test_bounds_hold_after_warm_up():
    # torchrl's BatchRenorm1d drops the result of a clamp: its factor keeps growing, and after 56
    # steps N(5, 2) comes out with mean 10.6 and standard deviation 2.9.
    ramps = {"r_max": bn.Ramp(1.0, 3.0, begin=0, end=10), "d_max": bn.Ramp(0.0, 5.0, 0, 10)}
    layer = bn.BatchRenorm1d(3, momentum=0.01, **ramps)
    for _ in range(56):
        y = layer(torch.randn(500, 3) * 2 + 5).detach()
    assert layer.limits() == (3.0, 5.0)
    # Memory has not arrived, so r and d are at most at their bounds, and |x̂·r + d| below this.
    torch.testing.assert_close(y.mean(0).clamp(-5, 5), y.mean(0))
    assert y.std(0).max() <= 3.0 * (1 + 1e-3)


def test_running_variance_of_sequences_counts_every_position():
    # torchrl's divides by N instead of N·L - 1: 1.86 for a variance of 0.93.
    layer, x = bn.BatchRenorm1d(2, momentum=1.0, **OPEN).double(), torch.randn(2, 2, 50).double()
    layer(x)
    torch.testing.assert_close(layer.running_var, x.movedim(1, 0).flatten(1).var(1))


def test_without_affine_there_are_no_parameters():
    # ludvb/batchrenorm keeps weight and bias that nothing trains.
    layer = bn.BatchRenorm1d(3, affine=False)
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == [
        *("running_mean", "running_var", "num_batches_tracked", "renorm_start")
    ]


def test_schedule_is_the_users():
    # ludvb/batchrenorm fixes it at 5,000 to 40,000 batches.
    layer = bn.BatchRenorm1d(3, r_max=bn.Ramp(1.0, 2.0, begin=0, end=1), d_max=1.0)
    layer(torch.randn(8, 3))
    assert layer.limits() == (2.0, 1.0)


def test_true_in_the_mask_is_real():
    # ludvb/batchrenorm and Keras differ in it.
    layer = bn.BatchRenorm1d(2, momentum=1.0, **OPEN)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1e6, 1e6]])
    layer(x, mask=torch.tensor([True, True, False]))
    torch.testing.assert_close(layer.running_mean, torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_one_channel_keeps_the_shape_of_its_buffers(channels, shape):
    # ludvb/batchrenorm squeezes the statistics, which turns one channel's into a scalar.
    layer = bn.BatchRenorm1d(channels, **OPEN)
    layer(torch.randn(8, channels, *shape))
    assert layer.running_mean.shape == layer.running_var.shape == (channels,)


def test_no_gradient_through_r_and_d():
    # With one, at open limits the layer would be (x - μ)/σ with constants, and the gradient of a
    # shift of the whole batch not 0.
    layer = bn.BatchRenorm1d(2, **OPEN).double()
    x = torch.randn(8, 2, dtype=torch.float64).requires_grad_()
    layer(x).backward(torch.randn(8, 2, dtype=torch.float64))
    assert x.grad.sum(0).abs().max() < 1e-12
    assert x.grad.abs().max() > 1e-3


def test_constructor_begins_as_torchs():
    torchs = list(inspect.signature(nn.BatchNorm2d.__init__).parameters)
    ours = list(inspect.signature(bn.BatchRenorm2d.__init__).parameters)
    ours = [name for name in ours if name != "bias" or "bias" in torchs]
    assert ours[: len(torchs)] == torchs
    assert isinstance(bn.BatchRenorm2d(3), nn.BatchNorm2d)
