"""One value per channel: an error that names the ways out, or the policy that was chosen."""

import pytest
import torch

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot
from tests.tolerance import STEPS, ulp

SINGLE = [
    (bn.BatchNorm1d, (1, 3)),
    (bn.BatchNorm1d, (1, 3, 1)),
    (bn.BatchNorm2d, (1, 3, 1, 1)),
    (bn.BatchNorm3d, (1, 3, 1, 1, 1)),
]


def single_by_mask():
    """A batch of four with one real sample."""
    mask = torch.tensor([False, False, True, False])
    return torch.randn(4, 3), mask


@pytest.mark.parametrize(("kind", "shape"), SINGLE)
def test_error_is_torchs_and_names_the_ways_out(kind, shape):
    # The most frequent complaint of all: the last batch, or a pooled branch of 1×1.
    layer = kind(3)
    before = snapshot(layer)
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        layer(torch.randn(shape))
    text = str(caught.value)
    for way_out in ("on_single", "running", "skip", "drop_last"):
        assert way_out in text
    assert str(list(shape))[1:-1] in text
    assert_unchanged(layer, before)


@pytest.mark.parametrize(("kind", "shape"), SINGLE)
def test_running_normalises_by_the_running_statistics(kind, shape):
    layer = kind(3, on_single="running", activation="relu")
    with torch.no_grad():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
        layer.weight.normal_()
    before = snapshot(layer)
    x = torch.randn(shape)
    y = layer(x)
    assert_unchanged(layer, before)
    assert torch.equal(y, layer.eval()(x))


@pytest.mark.parametrize(("kind", "shape"), SINGLE)
def test_skip_gives_the_bias_and_commits_nothing(kind, shape):
    layer = kind(3, on_single="skip")
    with torch.no_grad():
        layer.bias.normal_()
    before = snapshot(layer)
    x = torch.randn(shape, requires_grad=True)
    y = layer(x)
    assert torch.equal(y.flatten(), layer.bias)
    g = torch.randn_like(y)
    y.backward(g)
    # g minus its own mean: zero up to rounding, which 1 / sqrt(eps) enlarges.
    assert x.grad.abs().max() <= STEPS * ulp(x.dtype) * layer.eps**-0.5 * g.abs().max()
    assert_unchanged(layer, before)


@pytest.mark.parametrize("policy", ["error", "running", "skip"])
@pytest.mark.parametrize(("kind", "shape"), SINGLE)
def test_eval_takes_one_value_with_every_policy(kind, shape, policy):
    assert kind(3, on_single=policy).eval()(torch.randn(shape)).shape == shape


@pytest.mark.parametrize("policy", ["error", "running", "skip"])
def test_two_values_are_an_ordinary_batch(policy):
    layer = bn.BatchNorm1d(3, on_single=policy)
    layer(torch.randn(2, 3))
    assert layer.num_batches_tracked.item() == 1


def test_error_with_a_mask_that_leaves_one_value():
    layer = bn.BatchNorm1d(3)
    x, mask = single_by_mask()
    before = snapshot(layer)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(x, mask=mask)
    assert_unchanged(layer, before)


def test_running_with_a_mask_that_leaves_one_value():
    layer = bn.BatchNorm1d(3, on_single="running")
    with torch.no_grad():
        layer.running_mean.normal_()
    x, mask = single_by_mask()
    before = snapshot(layer)
    y = layer(x, mask=mask)
    assert_unchanged(layer, before)
    torch.testing.assert_close(y[2], layer.eval()(x)[2])
    assert (y[~mask] == 0).all()


def test_skip_with_a_mask_that_leaves_one_value():
    layer = bn.BatchNorm1d(3, on_single="skip")
    with torch.no_grad():
        layer.bias.normal_()
    x, mask = single_by_mask()
    before = snapshot(layer)
    y = layer(x, mask=mask)
    assert_unchanged(layer, before)
    assert torch.equal(y[2], layer.bias)
    assert (y[~mask] == 0).all()


@pytest.mark.parametrize("policy", ["error", "running", "skip"])
def test_gradient_flows_under_every_policy_that_runs(policy):
    layer = bn.BatchNorm1d(3, on_single=policy)
    x = torch.randn(1, 3, requires_grad=True)
    if policy == "error":
        with pytest.raises(ValueError, match="more than 1 value"):
            layer(x)
        return
    layer(x).backward(torch.ones(1, 3))
    assert x.grad.isfinite().all()
    assert layer.bias.grad.tolist() == [1, 1, 1]


def test_without_tracking_running_has_nothing_to_use():
    with pytest.raises(ValueError, match="track_running_stats"):
        bn.BatchNorm1d(3, on_single="running", track_running_stats=False)(torch.randn(1, 3))


def test_unknown_policy_is_refused_at_construction():
    with pytest.raises(ValueError, match=r"on_single.*(?s:.)*ignore"):
        bn.BatchNorm1d(3, on_single="ignore")


def test_eval_without_tracking_on_one_value_as_torch():
    mine = bn.BatchNorm1d(3, track_running_stats=False).eval()
    theirs = torch.nn.BatchNorm1d(3, track_running_stats=False).eval()
    for layer in (mine, theirs):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(torch.randn(1, 3))
