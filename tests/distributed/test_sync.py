"""Synchronised batch norm without others: a plain layer; and its messages and merges."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.library import opcheck

import batchnorm as bn
from batchnorm.ops._collectives import Seat
from batchnorm.ops._messages import Header, check_headers, introduce, name_of, pack, unpack
from batchnorm.ops._sync import merge_all_ranks
from tests.tolerance import assert_within, ulp

PLAIN = {2: bn.BatchNorm1d, 3: bn.BatchNorm1d, 4: bn.BatchNorm2d, 5: bn.BatchNorm3d}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dims", PLAIN)
def test_without_a_group_it_is_the_plain_layer_bit_for_bit(dims, training):
    x = torch.randn(6, 5, 4, 3, 2)[(slice(None), slice(None), *(0,) * (5 - dims))]
    layers = [PLAIN[dims](5, activation="relu"), bn.SyncBatchNorm(5, activation="relu")]
    results = []
    for layer in layers:
        leaf = x.clone().requires_grad_()
        y = layer.train(training)(leaf)
        y.backward(x.flip(0))
        results.append([y, leaf.grad, layer.weight.grad, *layer.buffers()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_constructor_takes_torchs_arguments_in_torchs_order():
    torchs = nn.SyncBatchNorm(3, 1e-3, None, True, True, None, "cpu", torch.float64, bias=False)
    ours = bn.SyncBatchNorm(3, 1e-3, None, True, True, None, "cpu", torch.float64, bias=False)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    assert repr(ours) == repr(torchs)
    assert isinstance(ours, nn.modules.batchnorm._BatchNorm)
    torchs.load_state_dict(ours.state_dict())
    ours.load_state_dict(torchs.state_dict())


@pytest.mark.parametrize("bad", [(3,), (2, 4, 3), (2, 3, 1, 1, 1, 1)], ids=str)
def test_wrong_shapes_are_refused(bad):
    with pytest.raises(ValueError, match="SyncBatchNorm"):
        bn.SyncBatchNorm(3)(torch.randn(bad))


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"on_nonfinite must be one of .*on_nonfinite='stop'"):
        bn.SyncBatchNorm(3, on_nonfinite="stop")


@pytest.mark.parametrize(
    "old",
    [
        nn.BatchNorm2d(3, eps=1e-3, momentum=None),
        nn.BatchNorm1d(3, affine=False),
        nn.BatchNorm3d(3, track_running_stats=False).eval(),
        nn.SyncBatchNorm(3, bias=False),
        bn.BatchNorm2d(3, activation="leaky_relu", slope=0.3, on_single="skip"),
        bn.SyncBatchNorm(3, on_nonfinite="error", name="a.b"),
        bn.BatchNorm1d(3).double(),
    ],
    ids=lambda layer: f"{type(layer).__module__.split('.')[0]}.{type(layer).__name__}",
)
def test_from_torch_takes_everything_over(old):
    new = bn.SyncBatchNorm.from_torch(old)
    pairs = [(dict(m.named_parameters()), dict(m.named_buffers())) for m in (old, new)]
    assert pairs[0][0].keys() == pairs[1][0].keys()
    for name, p in pairs[0][0].items():
        assert pairs[1][0][name] is p
    for name, b in pairs[0][1].items():
        assert pairs[1][1][name] is b
    for name in ("eps", "momentum", "affine", "track_running_stats", "training", "num_features"):
        assert getattr(new, name) == getattr(old, name)
    for name in ("activation", "slope", "on_single", "on_nonfinite", "name"):
        if hasattr(old, name):
            assert getattr(new, name) == getattr(old, name)
    assert (new.num_nonfinite is None) == (new.running_mean is None)


def test_from_torch_refuses_a_subclass():
    class Mine(nn.BatchNorm2d):
        pass

    with pytest.raises(TypeError, match=r"not their subclasses. Got Mine"):
        bn.SyncBatchNorm.from_torch(Mine(3))


def test_layers_are_named_by_their_paths():
    model = nn.Sequential(nn.Sequential(bn.SyncBatchNorm(3)), bn.SyncBatchNorm(3))
    bn.SyncBatchNorm.name_layers(model)
    assert [model[0][0].name, model[1].name] == ["0.0", "1"]


def test_copies_and_pickles():
    layer = bn.SyncBatchNorm(3, activation="relu", name="x")
    layer(torch.randn(4, 3))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        x = torch.randn(4, 3)
        assert torch.equal(twin.eval()(x), copy.deepcopy(layer).eval()(x))
        assert twin.name == "x"
        assert twin.weight is not layer.weight
        twin.train()(x)


def test_a_layer_with_a_group_cannot_be_pickled():
    layer = bn.SyncBatchNorm(3)
    layer.process_group = object()
    with pytest.raises(TypeError, match="a process group cannot be pickled"):
        pickle.dumps(layer)


def test_half_keeps_wide_statistics():
    layer = bn.SyncBatchNorm(3).half()
    assert layer.weight.dtype == torch.float16
    assert layer.running_var.dtype == torch.float32


# ---------------------------------------------------------------------------- messages


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_messages_keep_every_bit(dtype):
    seat = Seat("group of a test", 1, 2, "SyncBatchNorm at 'a.b'", slot=5)
    header = introduce(seat, 4, torch.device("cpu"))
    words = torch.int32 if dtype == torch.float32 else torch.int64
    # A signalling NaN, which arithmetic would make quiet.
    pattern = torch.tensor([torch.finfo(torch.float32).max, -0.0, torch.inf, 1e-42]).to(dtype)
    pattern.view(words)[0] = 0x7F800001 if dtype == torch.float32 else 0x7FF0000000000001
    count = torch.tensor(2**40 + 1)

    everyone = torch.stack([pack(pattern, -pattern, count, header)] * 3)
    stats, counts, codes = unpack(everyone, dtype)
    mean, var = stats.chunk(2, 1)

    for row in range(3):
        assert torch.equal(mean[row].view(words), pattern.view(words))
        assert torch.equal(var[row].view(words), (-pattern).view(words))
    assert counts.flatten().tolist() == [2**40 + 1] * 3
    assert Header.decode(int(codes[0])) == Header(5, 4)
    assert name_of("group of a test", int(codes[0])) == "SyncBatchNorm at 'a.b'"


@given(st.integers(0, 2**30 - 1), st.integers(0, 2**32 - 1))
def test_headers_survive_their_code(slot, channels):
    header = Header(slot, channels)
    assert 0 < header.code < 2**63
    assert Header.decode(header.code) == header


def test_differing_headers_say_who_said_what():
    seat = Seat("", 0, 3, "SyncBatchNorm(4)", 1)
    codes = [Header(1, 4).code, Header(2, 8).code, Header(1, 4).code]
    check_headers(seat, codes[:1] * 3)
    with pytest.raises(
        RuntimeError, match=r"layer 1 with 4 channels from ranks 0, 2; layer 2 with 8 .* rank 1\."
    ):
        check_headers(seat, codes)


def everyone(ranks: int) -> torch.Tensor:
    header = introduce(Seat("op", 0, ranks, "who", 1), 3, torch.device("cpu"))
    parts = [(torch.randn(3), torch.rand(3), torch.tensor(4), header) for _ in range(ranks)]
    return torch.stack([pack(*part) for part in parts])


def test_check_operator():
    args = (everyone(2), torch.float32, "op", 1, "warn")
    opcheck(torch.ops.batchnorm_ranks.check.default, args)
    assert torch.equal(torch.ops.batchnorm_ranks.check(*args), args[0])


# ------------------------------------------------------------------------------ merges


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.booleans(), st.booleans())
def test_merge_gives_the_statistics_of_all(sizes, wide, far):
    dtype = torch.float64 if wide else torch.float32
    g = torch.Generator().manual_seed(sum(sizes) + len(sizes))
    offset = 1e4 if far else 0.0
    parts = [torch.randn(n, 3, generator=g).to(dtype) + 5 * i + offset for i, n in enumerate(sizes)]
    stats = [bn.functional.batch_norm_stats(p) for p in parts]
    mean, var, count = merge_all_ranks(
        torch.stack([torch.cat([s.mean, s.var]) for s in stats]),
        torch.stack([s.count for s in stats]).unsqueeze(1),
    )

    whole = torch.cat(parts).double()
    assert count.shape == ()
    assert count == len(whole)
    assert (var >= 0).all()
    if len(whole):
        # Each rank's mean is rounded once before it is sent, and the result once.
        rounding = ulp(dtype) * (whole.abs().amax(0) + 1)
        spread = whole.amax(0) - whole.amin(0) + 1
        assert_within(mean, whole.mean(0), None, rounding, "mean")
        assert_within(var, whole.var(0, correction=0), None, 8 * rounding * spread, "var")


@pytest.mark.parametrize("ranks", [1, 2, 3, 64, 1000, 1024])
def test_merge_of_many_ranks(ranks):
    g = torch.Generator().manual_seed(ranks)
    mean = torch.randn(ranks, 2, generator=g, dtype=torch.float64)
    var = torch.rand(ranks, 2, generator=g, dtype=torch.float64)
    count = torch.randint(1, 9, (ranks, 1), generator=g)
    got = merge_all_ranks(torch.cat([mean, var], 1), count)

    share = count / count.sum().double()
    want = (share * mean).sum(0)
    torch.testing.assert_close(got[0], want)
    torch.testing.assert_close(got[1], (share * (var + (mean - want) ** 2)).sum(0))
    assert got[2] == count.sum()


def test_merged_mean_is_off_by_one_rounding():
    g = torch.Generator().manual_seed(0)
    mean = 1e4 + torch.randn(100, 64, generator=g)
    count = torch.randint(1, 9, (100, 1), generator=g)
    got = merge_all_ranks(torch.cat([mean, torch.ones_like(mean)], 1), count)

    share = count / count.sum().double()
    want = (share * mean.double()).sum(0)
    var = 1 + (share * (mean.double() - want).square()).sum(0)
    rounding = ulp(torch.float32) / 2 * want * 1.01
    assert_within(got[0], want, None, rounding, "mean")
    assert_within(got[1], var, None, 16 * ulp(torch.float32) * var, "var")
