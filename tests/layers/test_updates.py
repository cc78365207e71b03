"""The statistics transaction: accumulate, skip, switch off; restored on every exit."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.layers.pairs import LAYERS, assert_unchanged, snapshot


def rows(x):
    return x.movedim(1, 0).flatten(1)


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_accumulate_is_one_commit_of_the_whole_batch(kind, shape, k, momentum):
    layer = kind(5, momentum=momentum).double()
    micro = [torch.randn(shape, dtype=torch.float64) * (i + 1) + i for i in range(k)]
    with bn.accumulate(layer):
        for x in micro:
            layer(x)
            assert layer.num_batches_tracked.item() == 0
            assert torch.equal(layer.running_mean, torch.zeros(5, dtype=torch.float64))
    whole = rows(torch.cat(micro))
    m = 1.0 if momentum is None else momentum
    torch.testing.assert_close(layer.running_mean, m * whole.mean(1), rtol=1e-12, atol=1e-12)
    want = (1 - m) + m * whole.var(1)
    torch.testing.assert_close(layer.running_var, want, rtol=1e-12, atol=1e-12)
    assert layer.num_batches_tracked.item() == 1


def test_accumulate_with_ragged_micro_batches_weighs_by_count():
    # An unweighted mean over a batch of 1000 and one of 2 gives 4.74 for a true 0.05.
    layer = bn.BatchNorm1d(1, momentum=1.0).double()
    a, b = torch.randn(1000, 1, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64) + 9
    with bn.accumulate(layer):
        layer(a)
        layer(b)
    whole = torch.cat([a, b])
    torch.testing.assert_close(layer.running_mean, whole.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, whole.var(0), rtol=1e-12, atol=1e-12)


def test_accumulate_normalises_each_micro_batch_by_itself():
    layer, plain = bn.BatchNorm1d(3), bn.BatchNorm1d(3)
    with bn.accumulate(layer):
        for _ in range(2):
            x = torch.randn(6, 3)
            assert torch.equal(layer(x), plain(x))


def test_accumulate_discards_when_the_body_raises():
    model = nn.Sequential(bn.BatchNorm1d(3), nn.Linear(3, 3), bn.BatchNorm1d(3))
    before = [snapshot(m) for m in (model[0], model[2])]

    def broken_loader():
        yield torch.randn(6, 3)
        raise KeyError

    def train():
        with bn.accumulate(model):
            for x in broken_loader():
                model(x)

    with pytest.raises(KeyError):
        train()
    for m, b in zip((model[0], model[2]), before, strict=True):
        assert_unchanged(m, b)
    model(torch.randn(6, 3))  # and the layers commit again
    assert model[0].num_batches_tracked.item() == 1


def test_accumulate_with_nothing_inside_changes_nothing():
    layer = bn.BatchNorm1d(3)
    before = snapshot(layer)
    with bn.accumulate(layer):
        pass
    assert_unchanged(layer, before)


def test_accumulate_drops_and_counts_non_finite_channels():
    layer = bn.BatchNorm1d(2, momentum=1.0)
    good = torch.randn(6, 2)
    bad = torch.randn(6, 2)
    bad[0, 1] = float("nan")
    with bn.accumulate(layer):
        layer(good)
        layer(bad)
    torch.testing.assert_close(layer.running_mean[0], torch.cat([good, bad])[:, 0].mean())
    torch.testing.assert_close(layer.running_mean[1], good[:, 1].mean())
    assert layer.num_nonfinite.tolist() == [0, 1]


def test_accumulate_of_only_bad_batches_commits_nothing():
    layer = bn.BatchNorm1d(2)
    with bn.accumulate(layer):
        layer(torch.full((4, 2), float("nan")))
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.running_var.tolist() == [1, 1]
    assert layer.num_nonfinite.tolist() == [1, 1]


def test_accumulate_ignores_eval_forwards_and_other_models():
    layer, other = bn.BatchNorm1d(2), bn.BatchNorm1d(2)
    with bn.accumulate(layer):
        layer.eval()(torch.randn(4, 2))
        other(torch.randn(4, 2))
        layer.train()
    assert layer.num_batches_tracked.item() == 0
    assert other.num_batches_tracked.item() == 1


def test_accumulate_with_gradient_accumulation_trains():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), bn.BatchNorm1d(3, activation="relu"), nn.Linear(3, 2))
    opt = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        opt.zero_grad()
        with bn.accumulate(model):
            for _ in range(4):
                x, t = torch.randn(8, 4), torch.randint(2, (8,))
                (nn.functional.cross_entropy(model(x), t) / 4).backward()
        opt.step()
    assert model[1].num_batches_tracked.item() == 3


def test_accumulate_with_masks_weighs_by_real_positions():
    layer = bn.BatchNorm1d(2, momentum=1.0).double()
    xs = torch.randn(3, 6, 2, dtype=torch.float64)
    masks = torch.rand(3, 6) < 0.6
    masks[:, :2] = True
    masks[1] = False
    with bn.accumulate(layer):
        for x, m in zip(xs, masks, strict=True):
            layer(x, mask=m)
    real = torch.cat([x[m] for x, m in zip(xs, masks, strict=True)])
    torch.testing.assert_close(layer.running_mean, real.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, real.var(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_skip_updates_normalises_by_the_batch_and_leaves_memory(kind, shape):
    layer, plain = kind(5), kind(5)
    x = torch.randn(shape)
    before = snapshot(layer)
    with bn.skip_updates(layer):
        assert torch.equal(layer(x), plain(x))
    assert_unchanged(layer, before)
    layer(x)
    assert layer.num_batches_tracked.item() == 1


def test_skip_updates_ends_when_the_body_raises():
    layer = bn.BatchNorm1d(3)
    with pytest.raises(KeyError), bn.skip_updates(layer):
        raise KeyError
    layer(torch.randn(4, 3))
    assert layer.num_batches_tracked.item() == 1


def test_set_updates_is_sticky_and_reaches_the_whole_model():
    # `requires_grad=False` still updates in torch, and `.eval()` is undone by `.train()`.
    model = nn.Sequential(bn.BatchNorm1d(3), nn.Sequential(bn.BatchNorm1d(3)))
    before = snapshot(model)
    bn.set_updates(model, False)
    model.train()
    model(torch.randn(4, 3))
    model.eval().train()
    model(torch.randn(4, 3))
    assert_unchanged(model, before)
    bn.set_updates(model, True)
    model(torch.randn(4, 3))
    assert model[1][0].num_batches_tracked.item() == 1


def test_set_updates_survives_skip_updates_and_copies():
    import copy

    layer = bn.BatchNorm1d(3)
    bn.set_updates(layer, False)
    with bn.skip_updates(layer):
        pass
    for one in (layer, copy.deepcopy(layer)):
        one(torch.randn(4, 3))
        assert one.num_batches_tracked.item() == 0


def test_nested_contexts_restore_in_order():
    layer = bn.BatchNorm1d(3)
    with bn.skip_updates(layer):
        with bn.skip_updates(layer):
            layer(torch.randn(4, 3))
        layer(torch.randn(4, 3))
    assert layer.num_batches_tracked.item() == 0
    with bn.accumulate(layer), bn.skip_updates(layer):
        layer(torch.randn(4, 3))
    assert layer.num_batches_tracked.item() == 0
    layer(torch.randn(4, 3))
    assert layer.num_batches_tracked.item() == 1


@pytest.mark.parametrize("enter", [bn.accumulate, bn.skip_updates])
def test_model_without_our_layers_is_reported(enter):
    # A silent no-op when nothing matched is how fvcore and composer hide mistakes.
    with pytest.raises(ValueError, match="(?i)no .*batch"), enter(nn.Linear(2, 2)):
        pass


def test_shared_layer_commits_once_per_use():
    layer = bn.BatchNorm1d(3)
    model = nn.Sequential(layer, layer)
    model(torch.randn(4, 3))
    assert layer.num_batches_tracked.item() == 2
    with bn.accumulate(model):
        model(torch.randn(4, 3))
    assert layer.num_batches_tracked.item() == 3


def test_average_of_all_commits_survives_a_bad_micro_batch():
    # The bad part was dropped inside one commit: that commit still counts as one.
    layer = bn.BatchNorm1d(1, momentum=None).double()
    first, bad, second, third = torch.randn(4, 6, 1, dtype=torch.float64).unbind()
    with bn.accumulate(layer):
        layer(first)
        layer(bad * float("nan"))
    layer(second)
    layer(third)
    want = (first.mean() + second.mean() + third.mean()) / 3
    torch.testing.assert_close(layer.running_mean[0], want, rtol=1e-12, atol=1e-12)
    assert layer.num_nonfinite.item() >= 1
