"""Recomputation by activation checkpointing is no second batch; two forwards, one backward."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot


def net(**options):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), bn.BatchNorm2d(4, activation="relu", **options), nn.Conv2d(4, 4, 3)
    ).double()


@pytest.mark.parametrize("options", [{}, {"momentum": None}], ids=str)
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_batch_counts_once(reentrant, options):
    # Both modes update torch's buffers twice (pytorch#96136, #62471).
    plain, saved = net(**options), net(**options)
    for _ in range(3):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        g = torch.randn(4, 4, 4, 4, dtype=torch.float64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        plain(a).backward(g)
        checkpoint(saved, b, use_reentrant=reentrant).backward(g)
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-12, atol=1e-12)
    for (name, v), (_, w) in zip(plain.named_buffers(), saved.named_buffers(), strict=True):
        assert torch.equal(v, w), name
    for p, q in zip(plain.parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-12)
    assert saved[1].num_batches_tracked.item() == 3


# The inner reentrant checkpoint runs under the outer's no_grad: torch warns about it.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_nested_and_sequential_checkpoints_count_once(reentrant):
    model = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(3, 3), bn.BatchNorm1d(3))])
    x = torch.randn(8, 3, requires_grad=True)

    def nested(x):
        y = checkpoint(model[:4], x, use_reentrant=reentrant)
        return checkpoint_sequential(model[4:], 2, y, use_reentrant=reentrant)

    checkpoint(nested, x, use_reentrant=reentrant).sum().backward()
    assert [m.num_batches_tracked.item() for m in model[1::2]] == [1, 1, 1, 1]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint_inside_accumulate_proposes_once(reentrant):
    layer = bn.BatchNorm1d(3, momentum=1.0).double()
    xs = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    with bn.accumulate(layer):
        for x in xs:
            checkpoint(layer, x, use_reentrant=reentrant).backward(torch.randn(8, 3).double())
    want = xs.detach().flatten(0, 1)
    torch.testing.assert_close(layer.running_mean, want.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, want.var(0), rtol=1e-12, atol=1e-12)


def test_forward_without_grad_still_commits():
    # fairscale's `no_grad` test for recomputation makes update_bn record zeros.
    layer = bn.BatchNorm1d(3)
    with torch.no_grad():
        layer(torch.randn(8, 3) + 5)
    assert layer.num_batches_tracked.item() == 1
    assert layer.running_mean.min() > 0.1


def test_forward_inside_a_backward_hook_is_not_a_batch():
    layer, before = bn.BatchNorm1d(3), None
    before = snapshot(layer)
    x = torch.randn(8, 3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: layer(torch.randn(8, 3)).detach() * 0 + g)
    y.sum().backward()
    assert_unchanged(layer, before)


def test_the_forward_after_a_backward_commits_again():
    layer = bn.BatchNorm1d(3)
    for k in range(3):
        layer(torch.randn(8, 3, requires_grad=True)).sum().backward()
        assert layer.num_batches_tracked.item() == k + 1


@pytest.mark.parametrize("training", [True, False])
def test_two_forwards_before_one_backward(training):
    # GANs and siamese nets: torch's DDP fails with "modified by an inplace operation"
    # (pytorch#22095, #65907, #73332).
    layer = bn.BatchNorm1d(3).double().train(training)
    with torch.no_grad():
        layer.running_mean.normal_()
    a, b = torch.randn(2, 8, 3, dtype=torch.float64).requires_grad_().unbind()
    one, two = layer(a), layer(b)
    with torch.no_grad():
        layer.running_mean.add_(1.0)
        layer.running_var.mul_(3.0)
    (one * torch.randn(8, 3) + two).square().sum().backward()
    assert layer.weight.grad.abs().max() > 0


def test_eval_gradient_is_that_of_the_statistics_at_the_forward():
    layer = bn.BatchNorm1d(3).double().eval()
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    layer.running_mean.add_(5.0)
    layer.running_var.mul_(9.0)
    g = torch.randn(8, 3, dtype=torch.float64)
    y.backward(g)
    torch.testing.assert_close(x.grad, g * (1 + 1e-5) ** -0.5, rtol=1e-12, atol=1e-12)
    want = (g * x.detach()).sum(0) * (1 + 1e-5) ** -0.5
    torch.testing.assert_close(layer.weight.grad, want, rtol=1e-12, atol=1e-12)


def test_layer_used_twice_in_one_graph():
    layer, other = bn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    x = torch.randn(8, 3, dtype=torch.float64)
    grads = []
    for one in (layer, other):
        leaf = x.clone().requires_grad_()
        one(one(leaf) ** 3).square().mul(x).sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)
    assert layer.num_batches_tracked.item() == 2
