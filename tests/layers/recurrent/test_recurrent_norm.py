"""RecurrentBatchNorm: a memory for each step, the last one's reused; single steps and sequences."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
N, L, C, T = 5, 6, 3, 4
LENGTHS = [3, 6, 2, 4, 6]


def make(**options):
    torch.manual_seed(0)
    layer = bn.RecurrentBatchNorm(C, T, **options).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    return layer


def written_out(layer, x, r, lengths):
    """Each step by the formula on the sequences that have it; ``(N, L, C)``, zeros in padding."""
    y = torch.zeros_like(x)
    moments = []
    for t in range(x.shape[1]):
        here = [i for i, size in enumerate(lengths) if size > t]
        rows = x[here, t]
        mean = rows.mean(0)
        var = (rows - mean).square().mean(0)
        out = (rows - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias
        y = y.index_put((torch.tensor(here), torch.tensor(t)), (out + r[here, t]).tanh())
        moments.append((mean, rows.var(0)))
    return y, moments


def given(x, how, lengths):
    """The same sequences in another form, and the arguments that go with it."""
    if how == "packed":
        return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), {}
    if how == "lengths":
        return x, {"lengths": lengths}
    if how == "mask":
        return x, {"mask": torch.arange(x.shape[1]) < torch.tensor(lengths)[:, None]}
    return x, {}


@pytest.mark.parametrize(
    ("how", "time_first"),
    [
        *[(how, first) for how in ("dense", "lengths", "mask") for first in (False, True)],
        ("packed", False),
    ],
)
def test_every_step_equals_the_formula(how, time_first):
    lengths = [L] * N if how == "dense" else LENGTHS
    layer = make(activation="tanh", batch_first=not time_first)
    x, r, g = torch.randn(3, N, L, C, dtype=F64)
    x, r = x.requires_grad_(), r.requires_grad_()
    (a, options), (b, _) = given(x, how, lengths), given(r, how, lengths)
    if time_first:
        a, b = a.transpose(0, 1), b.transpose(0, 1)
        options = {k: v.t() if k == "mask" else v for k, v in options.items()}
    y = layer(a, b, **options)
    y = y.transpose(0, 1) if time_first else y
    y = pad_packed_sequence(y, batch_first=True)[0] if how == "packed" else y

    want, moments = written_out(layer, x, r, lengths)
    torch.testing.assert_close(y, want, **CLOSE)
    leaves = [x, r, layer.weight, layer.bias]
    for p, q in zip(
        torch.autograd.grad(y, leaves, g), torch.autograd.grad(want, leaves, g), strict=True
    ):
        torch.testing.assert_close(p, q, **CLOSE)
    for t, (mean, var) in enumerate(moments[:T]):
        torch.testing.assert_close(layer.running_mean[t], 0.1 * mean, **CLOSE)
        torch.testing.assert_close(layer.running_var[t], 0.9 + 0.1 * var, **CLOSE)
    assert layer.num_batches_tracked.tolist() == [1] * T


@pytest.mark.parametrize("momentum", [0.1, None])
def test_single_steps_leave_what_the_whole_sequence_leaves(momentum):
    one, two = make(momentum=momentum), make(momentum=momentum)
    for length in (6, 2, 5, 3):
        x = torch.randn(N, length, C, dtype=F64)
        want = one(x)
        for t in range(length):
            torch.testing.assert_close(two(x[:, t], step=t), want[:, t], **CLOSE)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(two.state_dict()[name], value, msg=name, **CLOSE)


def test_average_of_all_batches_counts_each_step_by_itself():
    layer = make(momentum=None)
    xs = [torch.randn(N, length, C, dtype=F64) for length in (4, 1, 2, 4)]
    for x in xs:
        layer(x)
    assert layer.num_batches_tracked.tolist() == [4, 3, 2, 2]
    for t in range(T):
        here = [x[:, t] for x in xs if x.shape[1] > t]
        mean = torch.stack([x.mean(0) for x in here]).mean(0)
        var = torch.stack([x.var(0) for x in here]).mean(0)
        torch.testing.assert_close(layer.running_mean[t], mean, **CLOSE)
        torch.testing.assert_close(layer.running_var[t], var, **CLOSE)


def test_steps_beyond_memory_leave_no_trace():
    one, two = make(), make()
    x = torch.randn(N, 9, C, dtype=F64)
    one(x)
    two(x[:, :T])
    for (name, a), b in zip(one.named_buffers(), two.buffers(), strict=True):
        assert torch.equal(a, b), name
    before = snapshot(one)
    one(x[:, 0], step=T)
    assert_unchanged(one, before)


@pytest.mark.parametrize("how", ["steps", "sequence", "packed", "lengths"])
@pytest.mark.parametrize("trained", [1, 3, T])
def test_evaluation_reuses_the_last_trained_step(trained, how):
    layer = make()
    for _ in range(3):
        layer(torch.randn(N, trained, C, dtype=F64) * torch.arange(1, trained + 1)[:, None])
    layer.eval()
    x = torch.randn(N, 9, C, dtype=F64)
    at = torch.arange(9).clamp(max=trained - 1)
    mean, var = layer.running_mean[at], layer.running_var[at]
    want = (x - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias
    lengths = [9, 4, 7, 1, 9]
    real = torch.arange(9) < torch.tensor([9] * N if how[0] == "s" else lengths)[:, None]
    if how == "steps":
        y = torch.stack([layer(x[:, t], step=t) for t in range(9)], 1)
    else:
        a, options = given(x, how, lengths)
        y = layer(a, **options)
        y = pad_packed_sequence(y, batch_first=True)[0] if how == "packed" else y
    torch.testing.assert_close(y[real], want[real], **CLOSE)
    assert (y[~real] == 0).all()


def test_a_step_no_batch_ever_filled_is_not_taken_for_memory():
    # Memory that was never written (mean 0, var 1) must not stand for steps beyond training.
    layer = make()
    layer(torch.randn(N, 2, C, dtype=F64) * 50)
    y = layer.eval()(torch.randn(64, 4, C, dtype=F64) * 50)
    spread = ((y - layer.bias) / layer.weight).std((0, 2))
    assert spread[3] < 10 * spread[1]


def test_end_of_the_longest_sequence_uses_memory_in_training():
    layer = make(momentum=1.0)
    layer(torch.randn(N, T, C, dtype=F64) * 3 + 1)
    before = snapshot(layer)
    x = torch.randn(1, T, C, dtype=F64)
    want = (x - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight
    torch.testing.assert_close(layer(x), want + layer.bias, **CLOSE)
    assert_unchanged(layer, before)


@pytest.mark.parametrize("how", ["packed", "lengths"])
def test_one_long_sequence_among_short_ones(how):
    layer = make(momentum=1.0)
    layer(torch.randn(N, T, C, dtype=F64) * 3 + 1)
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    x = torch.randn(N, 3, C, dtype=F64)
    a, options = given(x, how, [1, 3, 1, 2, 1])
    y = layer(a, **options)
    y = pad_packed_sequence(y, batch_first=True)[0] if how == "packed" else y
    want = (x[1, 2] - mean[2]) / (var[2] + layer.eps).sqrt() * layer.weight + layer.bias
    torch.testing.assert_close(y[1, 2], want, **CLOSE)
    torch.testing.assert_close(layer.running_mean[1], x[[1, 3], 1].mean(0), **CLOSE)
    assert torch.equal(layer.running_mean[2:], mean[2:])
    assert layer.num_batches_tracked.tolist() == [2, 2, 1, 1]


@pytest.mark.parametrize("options", [{"on_single": "error"}, {"track_running_stats": False}])
def test_single_values_can_be_an_error(options):
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make(**options)(torch.randn(1, 2, C, dtype=F64))


def test_single_values_can_be_skipped():
    layer = make(on_single="skip")
    before = snapshot(layer)
    y = layer(torch.randn(1, 2, C, dtype=F64))
    torch.testing.assert_close(y, layer.bias.expand(1, 2, C), **CLOSE)
    assert_unchanged(layer, before)


def test_weight_starts_at_a_tenth():
    layer = bn.RecurrentBatchNorm(C, T)
    assert layer.weight.tolist() == pytest.approx([0.1] * C)
    assert layer.bias.tolist() == [0.0] * C
    assert bn.RecurrentBatchNorm(C, T, weight_init=0.5).weight.tolist() == [0.5] * C
    layer(torch.randn(N, L, C))
    layer.reset_parameters()
    assert layer.num_batches_tracked.tolist() == [0] * T
    assert layer.running_var.tolist() == [[1.0] * C] * T


def test_accumulate_merges_each_step_by_count():
    layer = make(momentum=1.0)
    xs = [torch.randn(n, length, C, dtype=F64) for n, length in ((4, 3), (2, 4), (5, 1))]
    with bn.accumulate(layer):
        for x in xs[:2]:
            layer(x)
        layer(xs[2][:, 0], step=0)
    for t in range(T):
        rows = torch.cat([x[:, t] for x in xs if x.shape[1] > t])
        torch.testing.assert_close(layer.running_mean[t], rows.mean(0), **CLOSE)
        torch.testing.assert_close(layer.running_var[t], rows.var(0), **CLOSE)
    assert layer.num_batches_tracked.tolist() == [1] * T


@pytest.mark.parametrize("accumulated", [False, True])
@pytest.mark.parametrize("momentum", [1.0, None])
def test_a_step_that_is_not_finite_enters_no_memory(momentum, accumulated):
    layer = make(momentum=momentum)
    first = torch.randn(N, T, C, dtype=F64)
    layer(first)
    bad = torch.randn(N, T, C, dtype=F64)
    bad[0, 2, 1] = float("inf")
    last = torch.randn(N, T, C, dtype=F64)
    if accumulated:
        with bn.accumulate(layer):
            layer(bad)
    else:
        layer(bad)
    assert layer.num_nonfinite.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    torch.testing.assert_close(layer.running_mean[2, 1], first[:, 2, 1].mean(), **CLOSE)
    layer(last)
    entered = [first, last] if momentum is None else [last]
    want = torch.stack([x[:, 2, 1].mean() for x in entered]).mean()
    torch.testing.assert_close(layer.running_mean[2, 1], want, **CLOSE)


@pytest.mark.parametrize("how", ["one channel", "all channels", "beside a good one"])
def test_average_survives_a_bad_micro_batch(how):
    layer = make(momentum=None)
    first, good, last, bad = torch.randn(4, N, T, C, dtype=F64)
    bad[0, 2, 1 if how == "one channel" else slice(None)] = float("nan")
    layer(first)
    with bn.accumulate(layer):
        layer(bad)
        if how == "beside a good one":
            layer(good)
    layer(last)
    entered = [first, good, last] if how == "beside a good one" else [first, last]
    want = torch.stack([x[:, 2, 1].mean() for x in entered]).mean()
    torch.testing.assert_close(layer.running_mean[2, 1], want, **CLOSE)


def test_updates_can_be_skipped():
    layer = make()
    before = snapshot(layer)
    with bn.skip_updates(layer):
        layer(torch.randn(N, L, C, dtype=F64))
        layer(torch.randn(N, C, dtype=F64), step=1)
    assert_unchanged(layer, before)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_pass_counts_once(reentrant):
    one, two = make(), make()
    x = torch.randn(N, L, C, dtype=F64, requires_grad=True)
    checkpoint(one, x, use_reentrant=reentrant).backward(torch.randn(N, L, C, dtype=F64))
    two(x)
    for (name, a), b in zip(one.named_buffers(), two.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_state_travels():
    layer = make()
    layer(torch.randn(N, L, C, dtype=F64))
    x = torch.randn(N, L, C, dtype=F64)
    fresh = bn.RecurrentBatchNorm(C, T).double()
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.eval()(x), layer.eval()(x))
    assert layer.state_dict()["running_mean"].shape == (T, C)
    assert isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
    assert "max_length=4" in repr(layer)


def test_memory_stays_wide_in_half_precision():
    layer = bn.RecurrentBatchNorm(C, T).bfloat16()
    y = layer(torch.randn(N, L, C, dtype=torch.bfloat16))
    assert y.dtype == layer.weight.dtype == torch.bfloat16
    assert layer.running_mean.dtype == layer.running_var.dtype == torch.float32
    assert layer.num_batches_tracked.dtype == torch.int64
    assert layer.num_batches_tracked.tolist() == [1] * T
    layer.eval()(torch.randn(N, L, C, dtype=torch.bfloat16))


@pytest.mark.parametrize("affine", [True, False])
def test_without_memory_every_batch_speaks_for_itself(affine):
    layer = bn.RecurrentBatchNorm(C, T, affine=affine, track_running_stats=False).double()
    x = torch.randn(N, L, C, dtype=F64)
    assert torch.equal(layer(x), layer.eval()(x))
    assert layer.running_mean is None


@pytest.mark.parametrize("shape", [(0, L, C), (N, 0, C), (0, C)])
def test_empty_input(shape):
    layer = make()
    before = snapshot(layer)
    step = 0 if len(shape) == 2 else None
    assert layer(torch.randn(shape, dtype=F64), step=step).shape == shape
    assert layer.eval()(torch.randn(shape, dtype=F64), step=step).shape == shape
    assert_unchanged(layer, before)


@pytest.mark.parametrize(
    ("shape", "options", "error", "words"),
    [
        ((N, C), {}, ValueError, "one time step needs its number"),
        ((N, C), {"step": -1}, ValueError, "step must not be negative"),
        ((N, L, C + 1), {}, ValueError, r"expected \(N, 3\).*\(5, 6, 4\)"),
        ((C,), {"step": 0}, ValueError, "at least 2 dimensions"),
        ((N, 2, L, C), {}, ValueError, r"expected \(N, 3\)"),
        ((N, C), {"step": 0, "lengths": [1] * N}, ValueError, "lengths are for whole sequences"),
        ((N, L, C), {"lengths": [L + 1] * N}, ValueError, "between 0 and the padded length 6"),
        ((N, L, C), {"mask": torch.ones(N, L)}, TypeError, "mask must be bool"),
    ],
)
def test_wrong_input_is_refused_and_changes_nothing(shape, options, error, words):
    layer = make()
    before = snapshot(layer)
    with pytest.raises(error, match=words):
        layer(torch.randn(shape, dtype=F64), **options)
    assert_unchanged(layer, before)


@pytest.mark.parametrize(("length", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError)])
def test_wrong_max_length_is_refused(length, error):
    with pytest.raises(error, match="max_length must be"):
        bn.RecurrentBatchNorm(C, length)


def test_gradcheck():
    layer = make(activation="tanh")
    x = torch.randn(N, 3, C, dtype=F64, requires_grad=True)
    lengths = torch.tensor([3, 1, 2, 3, 2])
    bn.set_updates(layer, False)

    def run(x, w, b, **options):
        return torch.func.functional_call(layer, {"weight": w, "bias": b}, (x,), options)

    for options in ({}, {"lengths": lengths}):
        args = (x, layer.weight, layer.bias)
        assert torch.autograd.gradcheck(lambda *a, o=options: run(*a, **o), args)
        assert torch.autograd.gradgradcheck(lambda *a, o=options: run(*a, **o), args)


@pytest.mark.parametrize("training", [True, False])
def test_fullgraph_compile_equals_eager(training):
    torch._dynamo.reset()
    one, two = make().train(training), make().train(training)
    compiled = torch.compile(one, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        x, g = torch.randn(2, N, L, C, dtype=F64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        got, want = compiled(a), two(b)
        got.backward(g)
        want.backward(g)
        torch.testing.assert_close(got, want, **CLOSE)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    for (name, p), q in zip(one.named_buffers(), two.buffers(), strict=True):
        torch.testing.assert_close(p, q, msg=name, **CLOSE)
    torch._dynamo.reset()


def test_exported_program_needs_no_library_of_ours():
    layer = make()
    layer(torch.randn(N, L, C, dtype=F64))
    layer.eval()
    x = torch.randn(N, L, C, dtype=F64)
    program = torch.export.export(layer, (x,))
    assert not [n for n in program.graph.nodes if "batchnorm." in str(n.target)]
    torch.testing.assert_close(program.module()(x), layer(x), **CLOSE)


def test_batch_sizes_share_a_compiled_graph():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    layer = make()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for n in (5, 6, 8, 9):
        compiled(torch.randn(n, 2, C, dtype=F64))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    assert layer.num_batches_tracked.tolist() == [4, 4, 0, 0]
    torch._dynamo.reset()
