"""Recalibration of every layer of the package: the population in whatever it remembers."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.stats import recalibrate
from tests.stats.nets import F64, assert_state, images, rows, state

ORDERS = ["together", "layerwise"]
PLAIN = {
    "ghost": lambda: bn.GhostBatchNorm2d(3, ghost_batch_size=4),
    "renorm": lambda: bn.BatchRenorm2d(3),
    "sync": lambda: bn.SyncBatchNorm(3),
    "torch sync": lambda: nn.SyncBatchNorm(3),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", PLAIN)
def test_layers_with_one_mean_and_variance_per_channel(kind, order):
    if kind == "torch sync" and order == "together":
        pytest.skip("torch's SyncBatchNorm refuses the CPU in training")
    layer = PLAIN[kind]().double()
    recalibrate(layer, images(), order=order)
    whole = torch.cat([rows(x) for x in images()])
    torch.testing.assert_close(layer.running_mean, whole.mean(0))
    torch.testing.assert_close(layer.running_var, whole.var(0))


@pytest.mark.parametrize("order", ORDERS)
def test_domains_are_measured_apart(order):
    layer = bn.DomainBatchNorm2d(3, num_domains=3).double()
    data = images()
    labels = [torch.arange(len(x)) % 2 for x in data]
    report = recalibrate(
        layer,
        list(zip(data, labels, strict=True)),
        order=order,
        forward=lambda model, batch: model(batch[0], domain=batch[1]),
    )
    for domain in range(2):
        whole = torch.cat([rows(x[d == domain]) for x, d in zip(data, labels, strict=True)])
        torch.testing.assert_close(layer.running_mean[domain], whole.mean(0))
        torch.testing.assert_close(layer.running_var[domain], whole.var(0))
    assert layer.running_var[2].tolist() == [1.0] * 3
    assert layer.num_batches_tracked.tolist() == [4, 4, 0]
    assert report.layers[0].kept == 3  # the channels of the domain that nobody has seen


@pytest.mark.parametrize("order", ORDERS)
def test_sequences_are_measured_at_their_real_positions(order):
    layer = bn.SequenceBatchNorm(3, channel_axis=-1).double()
    g = torch.Generator().manual_seed(0)
    xs = [torch.randn(4, 5, 3, generator=g, dtype=F64) for _ in range(3)]
    lengths = [torch.tensor([5, 3, 2, 1]), torch.tensor([4, 4, 4, 4]), torch.tensor([1, 2, 5, 5])]
    batches = [{"input": x, "lengths": n} for x, n in zip(xs, lengths, strict=True)]
    recalibrate(layer, batches, order=order)
    steps = torch.arange(5)
    real = torch.cat([x[steps < n[:, None]] for x, n in zip(xs, lengths, strict=True)])
    torch.testing.assert_close(layer.running_mean, real.mean(0))
    torch.testing.assert_close(layer.running_var, real.var(0))


def test_recurrent_steps_are_measured_apart():
    layer = bn.RecurrentBatchNorm(3, max_length=6).double()
    g = torch.Generator().manual_seed(0)
    xs = [torch.randn(n, 3, generator=g, dtype=F64) for n in (7, 4, 9)]
    recalibrate(layer, xs, forward=lambda m, x: [m(x * (t + 1), step=t) for t in range(4)])
    whole = torch.cat(xs)
    for t in range(4):
        torch.testing.assert_close(layer.running_mean[t], whole.mean(0) * (t + 1))
        torch.testing.assert_close(layer.running_var[t], whole.var(0) * (t + 1) ** 2)


@pytest.mark.parametrize("mode", ["recurrent", "sequence"])
def test_recurrent_networks_are_recalibrated_inside(mode):
    model = bn.BatchNormLSTM(4, 5, batch_first=True, mode=mode, max_length=6).double()
    before = state(model)
    report = recalibrate(model, torch.randn(5, 8, 6, 4, dtype=F64))
    assert not report.left
    assert all(layer.shift > 0 for layer in report.layers)
    report.undo()
    assert_state(model, before)


@pytest.mark.parametrize("order", ORDERS)
def test_whitening_is_that_of_all_data(order):
    layer = bn.WhitenedBatchNorm2d(3, group_size=3, eps=1e-9, affine=False).double()
    mix = torch.randn(3, 3, dtype=F64)
    data = [torch.einsum("ij,njhw->nihw", mix, x) for x in images()]
    recalibrate(layer, data, order=order)
    whole = torch.cat([rows(x) for x in data])
    torch.testing.assert_close(layer.running_covariance[0], whole.T.cov())
    torch.testing.assert_close(layer.running_mean, whole.mean(0))
    layer.eval()
    out = torch.cat([rows(layer(x)) for x in data])
    torch.testing.assert_close(out.T.cov(), torch.eye(3, dtype=F64), rtol=1e-6, atol=1e-6)
    assert layer.num_batches_tracked.item() == len(data)


def test_mask_of_the_batch_does_not_reach_layers_with_inputs_of_their_own():
    layer = bn.SequenceBatchNorm(3, channel_axis=-1)
    with pytest.raises(ValueError, match="mask= is for layers"):
        recalibrate(layer, [torch.randn(4, 5, 3)], mask=lambda x: torch.ones(4).bool())
