"""Mistakes of the field, each with its source: none of them may be ours."""

import pytest
import torch
from torch import nn

import batchnorm as bn

F64 = torch.float64


def test_running_variance_counts_positions_too():
    # torchrl BatchRenorm1d: n of N instead of N·L gives 1.86 for a true 0.93.
    # https://github.com/pytorch/rl (torchrl/modules/models/batchrenorm.py)
    layer = bn.BatchNorm1d(1, momentum=1.0).double()
    x = torch.randn(2, 1, 50, dtype=F64)
    layer(x)
    torch.testing.assert_close(layer.running_var[0], x.var(), rtol=1e-12, atol=0)


def test_training_at_mean_1e4_is_finite():
    # keras on torch: E[x²] - E[x]² unclamped gives NaN. keras/src/backend/torch/nn.py moments
    y = bn.BatchNorm2d(3)(torch.randn(8, 3, 6, 6) + 1e4)
    assert y.isfinite().all()
    assert 0.9 < y.std().item() < 1.1


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_channels_last_statistics_at_large_mean(format):
    # torch channels_last at mean/std 1e4: variance off by up to 1 % (torch 2.13, CPU).
    x = (torch.randn(16, 8, 14, 14) + 1e4).contiguous(memory_format=format)
    layer = bn.BatchNorm2d(8, momentum=1.0)
    layer(x)
    want = x.double().movedim(1, 0).flatten(1).var(1)
    torch.testing.assert_close(layer.running_var.double(), want, rtol=1e-5, atol=0)


def test_weights_of_any_sign_and_size_load_as_they_are():
    # inplace_abn turns weights into |weight| + eps. https://github.com/mapillary/inplace_abn
    theirs = nn.BatchNorm2d(4).double()
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([-2.0, 0.0, 1e-8, 3.0]))
    mine = bn.BatchNorm2d(4).double()
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 4, 3, 3, dtype=F64)
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_first_commit_is_not_corrected_twice():
    # equinox-style zero-debias, replayed, reports 103 for a true 4 after one step.
    layer = bn.BatchNorm1d(1).double()
    layer(torch.tensor([[3.0], [5.0]], dtype=F64))
    assert layer.running_mean.item() == pytest.approx(0.4, rel=1e-12)
    assert layer.running_var.item() == pytest.approx(0.9 + 0.2, rel=1e-12)


def test_momentum_zero_is_not_momentum_none():
    # pretrained-models.pytorch#5: momentum 0 freezes the statistics.
    layer = bn.BatchNorm1d(3, momentum=0.0)
    layer(torch.randn(8, 3) + 5)
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.num_batches_tracked.item() == 1


def test_frozen_parameters_still_have_a_gradient_for_the_input():
    # pytorch#10856: requires_grad=False freezes weights, not statistics; the graph must live on.
    layer = bn.BatchNorm1d(3, activation="relu").requires_grad_(False)
    x = torch.randn(8, 3, requires_grad=True)
    y = layer(x)
    y.backward(torch.randn_like(y))
    assert x.grad.abs().max() > 0
    assert layer.weight.grad is None
    assert layer.num_batches_tracked.item() == 1


def test_input_without_grad_trains_the_parameters():
    layer = bn.BatchNorm1d(3)
    y = layer(torch.randn(8, 3))
    y.backward(torch.randn_like(y))
    assert layer.weight.grad.abs().max() > 0
    assert layer.bias.grad.abs().max() > 0


def test_each_sample_of_a_batch_is_its_own():
    # DSBN repositories take `domain_label[0]` for the whole batch; here: a mask per sample.
    layer = bn.BatchNorm1d(1, momentum=1.0)
    x = torch.tensor([[1.0], [100.0], [3.0], [100.0]])
    layer(x, mask=torch.tensor([True, False, True, False]))
    assert layer.running_mean.item() == 2.0


def test_length_equal_to_channels_is_still_channels_first():
    # BatchNorm1d takes (N, C, L), also where L == C (pytorch#76613).
    x = torch.randn(4, 3, 3, dtype=F64)
    layer = bn.BatchNorm1d(3, momentum=1.0).double()
    layer(x)
    torch.testing.assert_close(layer.running_mean, x.mean((0, 2)), rtol=1e-12, atol=1e-12)


def test_transposed_sequence_is_read_by_its_strides():
    x = torch.randn(4, 7, 3, dtype=F64).transpose(1, 2)  # (N, L, C) memory, (N, C, L) view
    want = nn.BatchNorm1d(3).double()(x)
    torch.testing.assert_close(bn.BatchNorm1d(3).double()(x), want, rtol=1e-12, atol=1e-12)


def test_eval_and_train_modes_do_not_leak_into_one_another():
    # tf and keras issues of "eval collapses": eval must not touch the statistics.
    layer = bn.BatchNorm1d(3)
    layer(torch.randn(8, 3) + 2)
    kept = layer.running_mean.clone()
    layer.eval()
    layer(torch.randn(8, 3) + 50)
    assert torch.equal(layer.running_mean, kept)


def test_converters_that_look_for_torchs_class_find_ours():
    # opacus, detectron2 and timm search for nn.modules.batchnorm._BatchNorm.
    model = nn.Sequential(nn.Conv2d(3, 4, 1), bn.BatchNorm2d(4), bn.BatchNorm2d(4))
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(found) == 2


def test_fuse_conv_bn_eval_of_torch_takes_our_layer():
    conv, layer = nn.Conv2d(3, 4, 3).eval(), bn.BatchNorm2d(4).eval()
    with torch.no_grad():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    fused = torch.nn.utils.fuse_conv_bn_eval(conv, layer)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(fused(x), layer(conv(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [2**16 + 1, 70000])
def test_batches_beyond_cudnns_limits(size):
    # cuDNN fails above 65535 rows (pytorch#2917, #19911).
    layer = bn.BatchNorm1d(2, momentum=1.0)
    x = torch.randn(size, 2)
    layer(x)
    torch.testing.assert_close(layer.running_var, x.var(0), rtol=1e-5, atol=0)
    layer.eval()(x)


def test_autocast_keeps_statistics_and_input_dtype():
    layer = bn.BatchNorm2d(4)
    conv = nn.Conv2d(3, 4, 1)
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        h = conv(x)
        y = layer(h)
    assert h.dtype == torch.bfloat16
    assert y.dtype == torch.nn.BatchNorm2d(4)(h).dtype
    assert layer.running_mean.dtype == layer.weight.dtype == torch.float32
    y.backward(torch.randn_like(y))
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
    wide = h.float()
    want = wide.mean((0, 2, 3))
    torch.testing.assert_close(layer.running_mean, 0.1 * want, rtol=1e-5, atol=1e-6)
