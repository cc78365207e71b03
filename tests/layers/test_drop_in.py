"""Our layers in the place of torch's: outputs, gradients, buffers, options, text."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.layers.pairs import IDS, PAIRS, twins
from tests.tolerance import ulp

OPTIONS = [
    {},
    {"eps": 1e-3},
    {"momentum": 0.9},
    {"momentum": None},
    {"momentum": 0.0},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
    {"momentum": None, "affine": False},
]


def close(a, b, what=""):
    bound = 64 * ulp(a.dtype) if a.is_floating_point() else 0
    torch.testing.assert_close(a, b, rtol=bound, atol=bound, msg=lambda m: f"{what}: {m}")


def step(layer, x, g):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(g)
    grads = {k: p.grad.clone() for k, p in layer.named_parameters()}
    layer.zero_grad()
    return y.detach(), x.grad, grads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_train_and_eval_as_torch(ours, theirs, shape, options, dtype):
    mine, torchs = twins(ours, theirs, shape[1], **options, dtype=dtype)
    for mode in (True, True, True, False, True, False):
        mine.train(mode)
        torchs.train(mode)
        x, g = (torch.randn(shape, dtype=dtype) * 2 + 1 for _ in range(2))
        got, want = step(mine, x, g), step(torchs, x, g)
        close(got[0], want[0], "output")
        close(got[1], want[1], "grad")
        assert got[2].keys() == want[2].keys()
        for name in want[2]:
            close(got[2][name], want[2][name], name)
        for name, value in torchs.state_dict().items():
            close(mine.state_dict()[name], value, name)


@pytest.mark.parametrize("updates", [1, 10, 100])
@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_buffers_after_k_batches_in_closed_form(ours, theirs, shape, updates):
    layer = ours(5, momentum=0.1).double()
    x = torch.randn(shape, dtype=torch.float64) * 3 + 2
    n = x.numel() // 5
    mean, var = x.movedim(1, 0).flatten(1).mean(1), x.movedim(1, 0).flatten(1).var(1)
    for _ in range(updates):
        layer(x)
    kept = 0.9**updates
    torch.testing.assert_close(layer.running_mean, (1 - kept) * mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, kept + (1 - kept) * var, rtol=1e-12, atol=1e-12)
    assert layer.num_batches_tracked.item() == updates
    assert n > 1


@pytest.mark.parametrize("updates", [1, 10, 100])
def test_momentum_none_is_the_average_of_all_batches(updates):
    layer = bn.BatchNorm1d(3, momentum=None).double()
    x = torch.randn(updates, 8, 3, dtype=torch.float64) + 4
    for batch in x:
        layer(batch)
    torch.testing.assert_close(layer.running_mean, x.mean((0, 1)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, x.var(1).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_text_and_state_dict_keys_are_torchs(ours, theirs, shape, options):
    mine, torchs = ours(5, **options), theirs(5, **options)
    assert repr(mine) == repr(torchs)
    assert list(mine.state_dict()) == list(torchs.state_dict())
    assert [k for k, _ in mine.named_parameters()] == [k for k, _ in torchs.named_parameters()]
    for name, value in torchs.state_dict().items():
        assert mine.state_dict()[name].dtype == value.dtype
        assert torch.equal(mine.state_dict()[name], value)


def test_text_shows_what_differs_from_torch():
    text = repr(bn.BatchNorm2d(3, activation="leaky_relu", on_single="running"))
    assert "leaky_relu" in text
    assert "running" in text
    assert "num_nonfinite" not in text
    assert "nonfinite" not in text


@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_isinstance_holds(ours, theirs, shape):
    layer = ours(5)
    assert isinstance(layer, theirs)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    others = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d} - {theirs}
    assert not isinstance(layer, tuple(others))


@pytest.mark.parametrize("name", [p[0].__name__ for p in PAIRS[1:]])
def test_positional_arguments_are_torchs(name):
    args = (5, 1e-3, 0.2, True, True, "cpu", torch.float64)
    mine, torchs = getattr(bn, name)(*args), getattr(nn, name)(*args)
    assert repr(mine) == repr(torchs)
    assert mine.weight.dtype == torch.float64
    with pytest.raises(TypeError):
        getattr(bn, name)(*args, "relu")


@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_empty_batch_as_torch(ours, theirs, shape):
    mine, torchs = twins(ours, theirs, 5)
    x = torch.randn(0, *shape[1:])
    for layer in (mine, torchs):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        assert y.shape == x.shape
        y.sum().backward()
        assert leaf.grad.shape == x.shape
    for name, value in torchs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", [2, 3])
def test_channels_last_in_is_channels_last_out(rank, training):
    ours, theirs, shape = PAIRS[rank]
    fmt = torch.channels_last if rank == 2 else torch.channels_last_3d
    mine, torchs = (layer.train(training) for layer in twins(ours, theirs, 5))
    x = torch.randn(shape).contiguous(memory_format=fmt).requires_grad_()
    y = mine(x)
    assert y.is_contiguous(memory_format=fmt)
    close(y, torchs(x))
    y.backward(torch.randn_like(y))
    assert x.grad.is_contiguous(memory_format=fmt)


@pytest.mark.parametrize("act", ["relu", "silu", "hardswish", "gelu"])
def test_activation_and_residual_are_the_modules_in_sequence(act):
    torch.manual_seed(0)
    plain, fused = bn.BatchNorm2d(5), bn.BatchNorm2d(5, activation=act)
    x, r = torch.randn(2, 6, 5, 4, 3)
    want = getattr(nn.functional, act)(plain(x) + r)
    close(fused(x, residual=r), want)
    close(fused(x, r), want)
    assert torch.equal(plain.running_mean * 1.9, plain.running_mean * 1.9)


def test_eval_without_running_statistics_uses_the_batch():
    mine, torchs = twins(bn.BatchNorm1d, nn.BatchNorm1d, 5, track_running_stats=False)
    x = torch.randn(6, 5)
    close(mine.eval()(x), torchs.eval()(x))


def test_reset_and_re_enabling_as_torch():
    mine, torchs = twins(bn.BatchNorm1d, nn.BatchNorm1d, 5)
    for layer in (mine, torchs):
        layer.reset_running_stats()
    assert torch.equal(mine.running_var, torchs.running_var)
    mine.reset_parameters()
    assert torch.equal(mine.weight, torch.ones(5))


def test_switching_track_running_stats_off_later_as_torch():
    mine, torchs = twins(bn.BatchNorm1d, nn.BatchNorm1d, 5)
    x = torch.randn(6, 5)
    for layer in (mine, torchs):
        layer.track_running_stats = False
    close(mine(x), torchs(x))
    for name, value in torchs.state_dict().items():
        close(mine.state_dict()[name], value, name)


@pytest.mark.parametrize("mode", [True, False])
def test_buffers_removed_later_as_torch(mode):
    mine, torchs = twins(bn.BatchNorm1d, nn.BatchNorm1d, 5)
    x = torch.randn(6, 5)
    for layer in (mine, torchs):
        layer.train(mode)
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    close(mine(x), torchs(x))


def test_a_network_trains_the_same_as_with_torchs_layer():
    def net(layer):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), layer(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
        ).double()

    nets = [net(bn.BatchNorm2d), net(nn.BatchNorm2d)]
    for model in nets:
        torch.manual_seed(1)
        opt = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for _ in range(5):
            x, t = torch.randn(8, 3, 8, 8, dtype=torch.float64), torch.randint(4, (8,))
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), t).backward()
            opt.step()
    for (name, a), b in zip(
        nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=name)


def test_layers_are_light_to_copy():
    layer = bn.BatchNorm2d(3, activation="relu", on_single="skip")
    assert repr(copy.deepcopy(layer)) == repr(layer)
