"""``mask`` at the layers: the same as on the unpadded positions, whatever the padding holds."""

import pytest
import torch

import batchnorm as bn
from tests.layers.pairs import LAYERS, assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
KINDS = ["samples", "positions"]


def make(kind, shape, which, **options):
    torch.manual_seed(0)
    layer = kind(5, **options).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    x = torch.randn(shape, dtype=F64)
    size = shape[:1] if which == "samples" else (shape[0], *shape[2:])
    mask = torch.rand(size) < 0.6
    mask[:2] = torch.tensor([True, False]).view(2, *[1] * (mask.ndim - 1))
    mask[2:4] = True
    full = mask.view(*mask.shape, *[1] * (len(shape) - 1 - mask.ndim)).expand(shape[0], *shape[2:])
    return layer, x, mask, full


@pytest.mark.parametrize("act", ["identity", "relu"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_equals_the_computation_on_unpadded_positions(kind, shape, which, training, act):
    layer, x, mask, full = make(kind, shape, which, activation=act)
    other = bn.BatchNorm1d(5, activation=act).double()
    other.load_state_dict(layer.state_dict())
    layer.train(training)
    other.train(training)
    x.requires_grad_()
    y = layer(x, mask=mask)
    real = x.detach().movedim(1, -1)[full].requires_grad_()
    want = other(real)
    torch.testing.assert_close(y.movedim(1, -1)[full], want, **CLOSE)
    assert (y.movedim(1, -1)[~full] == 0).all()
    g = torch.randn_like(y)
    y.backward(g)
    want.backward(g.movedim(1, -1)[full])
    torch.testing.assert_close(x.grad.movedim(1, -1)[full], real.grad, **CLOSE)
    assert (x.grad.movedim(1, -1)[~full] == 0).all()
    torch.testing.assert_close(layer.weight.grad, other.weight.grad, **CLOSE)
    torch.testing.assert_close(layer.bias.grad, other.bias.grad, **CLOSE)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, **CLOSE)


@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_padding_may_hold_nan(kind, shape, which):
    layer, x, mask, full = make(kind, shape, which, activation="silu")
    x = x.masked_fill(~full.unsqueeze(1), float("nan")).requires_grad_()
    y = layer(x, mask=mask)
    assert y.isfinite().all()
    y.backward(torch.randn_like(y))
    assert x.grad.isfinite().all()
    assert layer.weight.grad.isfinite().all()
    assert layer.running_mean.isfinite().all()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_fully_masked_batch_changes_nothing(kind, shape, which, momentum):
    # Keras still decays its moving variance on an all-masked batch.
    layer, x, mask, _ = make(kind, shape, which, momentum=momentum)
    before = snapshot(layer)
    x = torch.full_like(x, float("nan")).requires_grad_()
    y = layer(x, mask=torch.zeros_like(mask))
    assert torch.equal(y, torch.zeros_like(y))
    y.backward(torch.randn_like(y))
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.equal(layer.weight.grad, torch.zeros(5, dtype=F64))
    assert_unchanged(layer, before)


def test_one_channel_takes_a_mask():
    # Keras on torch raises for C = 1 and for axis = 1.
    layer = bn.BatchNorm1d(1)
    mask = torch.tensor([True, True, False])
    y = layer(torch.tensor([[1.0], [3.0], [100.0]]), mask=mask)
    torch.testing.assert_close(y.flatten(), torch.tensor([-1.0, 1.0, 0.0]), rtol=1e-5, atol=0)


def test_lengths_of_a_padded_batch_as_a_mask():
    # Pads of variable length pollute statistics (pytorch#70529, deepspeech#312).
    lengths = torch.tensor([5, 2, 4])
    x = torch.randn(3, 4, 5, dtype=F64)
    mask = torch.arange(5) < lengths[:, None]
    layer = bn.BatchNorm1d(4).double()
    layer(x, mask=mask)
    real = torch.cat([s[:, :n] for s, n in zip(x, lengths, strict=True)], 1)
    torch.testing.assert_close(layer.running_mean, 0.1 * real.mean(1), **CLOSE)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * real.var(1), **CLOSE)


@pytest.mark.parametrize("which", KINDS)
def test_mask_need_not_be_contiguous(which):
    layer, x, mask, _ = make(bn.BatchNorm2d, (6, 5, 4, 3), which)
    other = torch.stack([mask, ~mask], -1)[..., 0]
    assert not other.is_contiguous()
    assert torch.equal(layer(x, mask=mask), layer(x, mask=other))


def test_mask_of_samples_and_of_positions_agree():
    layer, x, mask, full = make(bn.BatchNorm2d, (6, 5, 4, 3), "samples")
    assert torch.equal(layer(x, mask=mask), layer(x, mask=full))


def test_residual_is_added_at_real_positions_only():
    layer, x, mask, full = make(bn.BatchNorm2d, (6, 5, 4, 3), "positions", activation="relu")
    r = torch.randn_like(x).requires_grad_()
    y = layer(x, residual=r, mask=mask)
    y.backward(torch.randn_like(y))
    padded = ~full.unsqueeze(1).expand(x.shape)
    assert (y[padded] == 0).all()
    assert (r.grad[padded] == 0).all()
    assert r.grad.abs().max() > 0


def test_mask_with_channels_last_memory():
    layer, x, mask, _ = make(bn.BatchNorm2d, (6, 5, 4, 3), "positions")
    y = layer(x.contiguous(memory_format=torch.channels_last), mask=mask)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x, mask=mask), **CLOSE)
