"""What whitened layers remember: covariances and the matrices of inference."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot
from tests.whitening import flat, mixed, moments

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def layer_of(channels=6, size=3, **options):
    return bn.WhitenedBatchNorm1d(channels, dtype=torch.float64, group_size=size, **options)


def covariances(x, size=3):
    return torch.stack(moments(flat(x), size)[1])


def unbiased(x, size=3):
    n = flat(x).shape[0]
    return covariances(x, size) * n / (n - 1)


def start(layer):
    return torch.eye(layer.group_size, dtype=torch.float64).expand_as(layer.running_covariance)


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_running_covariance_after_some_batches(momentum):
    layer, want = layer_of(momentum=momentum), None
    want = start(layer)
    for k in range(1, 11):
        x = mixed(20, 6, 2, seed=k)
        layer(x)
        m = 1 / k if momentum is None else momentum
        want = (1 - m) * want + m * unbiased(x)
    torch.testing.assert_close(layer.running_covariance, want, **CLOSE)
    diagonal = layer.running_covariance.diagonal(0, 1, 2).flatten()
    torch.testing.assert_close(layer.running_var, diagonal, **CLOSE)
    root = layer.running_whitening
    eye = layer.eps * torch.eye(3, dtype=torch.float64)
    back = root @ (layer.running_covariance + eye) @ root
    torch.testing.assert_close(back, torch.eye(3, dtype=torch.float64).expand(2, 3, 3), **CLOSE)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("nested", [False, True])
def test_accumulate_commits_the_covariance_of_the_whole_batch(momentum, nested):
    layer = layer_of(momentum=momentum)
    parts = [mixed(n, 6, seed=n, offset=n) for n in (2, 9, 40)]
    with bn.accumulate(layer):
        layer(parts[0])
        if nested:
            with bn.accumulate(layer):
                layer(parts[1])
        else:
            layer(parts[1])
        layer(parts[2])
    whole = torch.cat(parts)
    m = 1.0 if momentum is None else momentum
    want = (1 - m) * start(layer) + m * unbiased(whole)
    torch.testing.assert_close(layer.running_covariance, want, **CLOSE)
    torch.testing.assert_close(layer.running_mean, m * whole.mean(0), **CLOSE)
    assert layer.num_batches_tracked.item() == 1


def test_accumulate_without_the_group_that_is_not_finite():
    layer, parts = layer_of(momentum=1.0), [mixed(9, 6, seed=i, offset=i) for i in range(3)]
    parts[1][0, 4] = float("nan")
    with bn.accumulate(layer):
        for x in parts:
            layer(x)
    rest = torch.cat([parts[0], parts[2]])
    torch.testing.assert_close(layer.running_covariance[1], unbiased(rest)[1], **CLOSE)
    torch.testing.assert_close(layer.running_covariance[0, 0, 0], torch.cat(parts)[:, 0].var())
    assert layer.num_nonfinite.tolist() == [0, 0, 0, 1, 1, 1]


def test_accumulate_of_lost_batches_alone_keeps_memory():
    layer, before = layer_of(), snapshot(layer_of())
    with bn.accumulate(layer):
        layer(torch.full((5, 6), float("inf"), dtype=torch.float64))
    for name in ("running_mean", "running_var", "running_covariance", "running_whitening"):
        assert torch.equal(getattr(layer, name), before[name])
    assert layer.num_nonfinite.tolist() == [1] * 6


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_group_that_is_not_finite_keeps_its_statistics(momentum, bad):
    layer, good = layer_of(momentum=momentum), layer_of(momentum=momentum)
    for k in range(3):
        x = mixed(20, 6, seed=k)
        good(x)
        if k == 1:
            x[0, 4] = bad
            y = layer(x)
            assert y[:, 3:].isnan().all()
            assert y[:, :3].isfinite().all()
        else:
            layer(x)
    assert layer.num_nonfinite.tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(layer.running_covariance[0], good.running_covariance[0], **CLOSE)
    two = layer_of(momentum=momentum)
    for k in (0, 2):
        two(mixed(20, 6, seed=k))
    torch.testing.assert_close(layer.running_covariance[1], two.running_covariance[1], **CLOSE)
    torch.testing.assert_close(layer.running_whitening[1], two.running_whitening[1], **CLOSE)


def test_skipped_updates_leave_memory_alone():
    layer = layer_of()
    before = snapshot(layer)
    with bn.skip_updates(layer):
        layer(mixed(20, 6))
    assert_unchanged(layer, before)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_batch_counts_once(reentrant):
    plain, saved = layer_of(), layer_of()
    x, g = mixed(20, 6), torch.randn(20, 6, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain(a).backward(g)
    checkpoint(saved, b, use_reentrant=reentrant).backward(g)
    torch.testing.assert_close(b.grad, a.grad, **CLOSE)
    assert_unchanged(saved, snapshot(plain))


@pytest.mark.parametrize("training", [True, False])
def test_two_forwards_before_one_backward(training):
    layer, twin = layer_of().train(training), layer_of().train(training)
    a, b = (mixed(20, 6, seed=i).requires_grad_() for i in range(2))
    g = torch.randn(20, 6, dtype=torch.float64)
    one, two = layer(a), layer(b)
    layer.running_whitening.mul_(3.0)
    (one * g + two).backward(torch.ones_like(one))
    c = a.detach().clone().requires_grad_()
    twin(c).backward(g)
    torch.testing.assert_close(a.grad, c.grad, **CLOSE)


def test_state_survives_every_kind_of_copy():
    layer, file = layer_of(method="newton", activation="elu"), io.BytesIO()
    layer(mixed(20, 6))
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = layer_of(method="newton", activation="elu")
    loaded.load_state_dict(torch.load(file, weights_only=True))
    x = mixed(20, 6, seed=3)
    for other in (loaded, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        assert list(other.state_dict()) == list(layer.state_dict())
        assert torch.equal(copy.deepcopy(other).eval()(x), copy.deepcopy(layer).eval()(x))


@pytest.mark.parametrize("method", ["zca", "newton"])
def test_checkpoint_of_a_batch_norm_loads_as_diagonal_covariances(method):
    torchs = nn.BatchNorm1d(6).double()
    torchs(mixed(20, 6))
    layer = layer_of(method=method)
    layer(mixed(20, 6, seed=1))
    layer.load_state_dict(torchs.state_dict())
    want = torchs.running_var.view(2, 3).diag_embed()
    assert torch.equal(layer.running_covariance, want)
    if method == "zca":
        x = mixed(9, 6)
        torch.testing.assert_close(layer.eval()(x), torchs.eval()(x), **CLOSE)
    torchs.load_state_dict(layer.state_dict(), strict=False)


def test_checkpoint_of_another_size_or_grouping_is_refused():
    layer = layer_of()
    for other in (nn.BatchNorm1d(4), layer_of(size=2), layer_of(channels=12)):
        with pytest.raises(RuntimeError, match="size mismatch for running_"):
            layer.load_state_dict(other.state_dict())


@pytest.mark.parametrize("cast", [lambda m: m.half(), lambda m: m.bfloat16()])
def test_narrowed_layers_keep_wide_memory(cast):
    layer = bn.WhitenedBatchNorm1d(6)
    layer(mixed(20, 6, dtype=torch.float32))
    before = snapshot(layer)
    narrow = cast(layer)
    assert_unchanged(narrow, before)
    x = mixed(20, 6).to(narrow.weight.dtype)
    assert narrow(x).dtype == narrow.eval()(x).dtype == x.dtype


def test_autocast_does_not_narrow_the_statistics():
    layer, plain = bn.WhitenedBatchNorm1d(6), bn.WhitenedBatchNorm1d(6)
    x = mixed(20, 6, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert torch.equal(y, plain(x))
    assert_unchanged(layer, snapshot(plain))


def test_reset_forgets():
    layer = layer_of(method="newton")
    fresh = snapshot(layer)
    layer(mixed(20, 6))
    layer.reset_running_stats()
    assert_unchanged(layer, fresh)


def test_without_running_statistics_evaluation_uses_the_batch():
    layer, plain = layer_of(track_running_stats=False), layer_of()
    x = mixed(20, 6)
    assert torch.equal(layer.eval()(x), plain(x))
    assert layer.running_covariance is None
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_empty_batch_counts_and_changes_nothing_else():
    layer = layer_of()
    before = snapshot(layer)
    x = torch.empty(0, 6, 4, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == (0, 6, 4)
    assert layer.num_batches_tracked.item() == 1
    assert torch.equal(layer.running_covariance, before["running_covariance"])


@pytest.mark.parametrize("policy", ["error", "running", "skip"])
def test_one_value_per_channel_follows_the_policy(policy):
    layer = layer_of(on_single=policy)
    layer(mixed(20, 6))
    before, x = snapshot(layer), mixed(1, 6, seed=2)
    if policy == "error":
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(x)
    else:
        y = layer(x)
        want = copy.deepcopy(layer).eval()(x) if policy == "running" else layer.bias[None]
        torch.testing.assert_close(y, want, **CLOSE)
    assert_unchanged(layer, before)


@pytest.mark.parametrize("method", ["zca", "newton"])
@pytest.mark.parametrize("training", [True, False])
def test_compiled_without_a_graph_break(method, training):
    torch._dynamo.reset()
    layer = layer_of(method=method, activation="relu", momentum=None).train(training)
    twin, mask = copy.deepcopy(layer), torch.rand(8, 5) < 0.7
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for i, how in enumerate([{}, {"mask": mask}]):
        x = mixed(8, 6, 5, seed=i)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        g = torch.randn_like(x)
        layer(a, **how).backward(g)
        compiled(b, **how).backward(g)
        torch.testing.assert_close(b.grad, a.grad, **CLOSE)
    for (name, p), q in zip(layer.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(q, p, msg=name, **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_exported_program_is_plain_torch(training):
    layer, x = layer_of(activation="relu").train(training), mixed(20, 6)
    program = torch.export.export(copy.deepcopy(layer), (x,))
    names = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert not any("batchnorm" in name for name in names)
    module = program.module()
    torch.testing.assert_close(module(x), layer(x), **CLOSE)
    torch.testing.assert_close(module.running_whitening, layer.running_whitening, **CLOSE)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "pca"}, "method must be one of .*method='pca'"),
        ({"iterations": 0}, "iterations must be a positive integer. Got iterations=0"),
        (
            {"group_size": 4},
            "group_size must divide num_features. Got num_features=6, group_size=4. Use 6",
        ),
        ({"group_size": 0}, "group_size must be a positive integer"),
    ],
)
def test_wrong_arguments_are_refused(options, text):
    with pytest.raises(ValueError, match=f"WhitenedBatchNorm1d: {text}"):
        bn.WhitenedBatchNorm1d(6, **options)


@pytest.mark.parametrize(("channels", "size"), [(3, 3), (64, 64), (100, 50), (256, 64), (67, 1)])
def test_default_group_size_is_shown(channels, size):
    layer = bn.WhitenedBatchNorm2d(channels)
    assert layer.running_covariance.shape == (channels // size, size, size)
    assert f"group_size={size}" in repr(layer)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    assert isinstance(layer, nn.BatchNorm2d)
