"""Batch renormalization against Ioffe's algorithm, written out."""

import copy
import io
import pickle

import pytest
import torch
from torch import func, nn
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
KINDS = [
    (bn.BatchRenorm1d, bn.BatchNorm1d, (6, 5)),
    (bn.BatchRenorm1d, bn.BatchNorm1d, (6, 5, 7)),
    (bn.BatchRenorm2d, bn.BatchNorm2d, (6, 5, 4, 3)),
    (bn.BatchRenorm3d, bn.BatchNorm3d, (4, 5, 2, 3, 2)),
]
OPEN = {"r_max": 3.0, "d_max": 5.0}


def layer_of(kind=bn.BatchRenorm1d, channels=5, **options):
    layer = kind(channels, dtype=F64, **{**OPEN, **options})
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2.0)
    return layer


def written_out(x, mean, var, r_max, d_max, eps=1e-5):
    """x̂ of Algorithm 1: statistics of the batch, corrected towards given ones."""
    dims, shape = [0, *range(2, x.dim())], (1, -1) + (1,) * (x.dim() - 2)
    batch_mean, batch_std = x.mean(dims), (x.var(dims, correction=0) + eps).sqrt()
    std = (var + eps).sqrt()
    r = (batch_std / std).clamp(1 / r_max, r_max).detach()
    d = ((batch_mean - mean) / std).clamp(-d_max, d_max).detach()
    x_hat = (x - batch_mean.view(shape)) / batch_std.view(shape)
    return x_hat * r.view(shape) + d.view(shape)


def expected(layer, x, r_max=3.0, d_max=5.0, act=lambda y: y, residual=0.0):
    shape = (1, -1) + (1,) * (x.dim() - 2)
    x_hat = written_out(x, layer.running_mean, layer.running_var, r_max, d_max, layer.eps)
    return act(x_hat * layer.weight.view(shape) + layer.bias.view(shape) + residual)


@pytest.mark.parametrize("limits", [(1.0, 0.0), (1.1, 0.1), (3.0, 5.0), (1.0, 2.0), (2.0, 0.0)])
@pytest.mark.parametrize(("kind", "plain", "shape"), KINDS)
def test_output_and_gradients_are_those_of_the_paper(kind, plain, shape, limits):
    layer = layer_of(kind, r_max=limits[0], d_max=limits[1])
    x = (torch.randn(shape, dtype=F64) * 2 + 1).requires_grad_()
    want, g = expected(layer, x, *limits), torch.randn(shape, dtype=F64)
    y = layer(x)
    torch.testing.assert_close(y, want, **CLOSE)
    leaves = [x, layer.weight, layer.bias]
    got = torch.autograd.grad(y, leaves, g)
    torch.testing.assert_close(got, torch.autograd.grad(want, leaves, g), **CLOSE)


@pytest.mark.parametrize(("scale", "shift"), [(0.01, -50.0), (100.0, 50.0)])
def test_both_bounds_of_r_and_d_are_reached_and_hold(scale, shift):
    layer = layer_of(affine=False)
    x = torch.randn(60, 5, dtype=F64) * scale + shift
    y = layer(x)
    sign = 1.0 if shift > 0 else -1.0
    torch.testing.assert_close(y.mean(0), torch.full((5,), 5.0 * sign, dtype=F64), **CLOSE)
    r = 3.0 if scale > 1 else 1 / 3.0
    std = x.var(0, correction=0).sqrt()
    want = r * std / (std.square() + layer.eps).sqrt()
    torch.testing.assert_close(y.std(0, correction=0), want, **CLOSE)


@pytest.mark.parametrize("act", ["relu", "silu"])
def test_residual_and_activation(act):
    layer = layer_of(activation=act)
    x, r = torch.randn(2, 6, 5, 7, dtype=F64).requires_grad_().unbind()
    want = expected(layer, x, act=getattr(torch.nn.functional, act), residual=r)
    y, g = layer(x, residual=r), torch.randn_like(x)
    torch.testing.assert_close(y, want, **CLOSE)
    got = torch.autograd.grad(y, [x, r, layer.weight, layer.bias], g)
    want = torch.autograd.grad(want, [x, r, layer.weight, layer.bias], g)
    torch.testing.assert_close(got, want, **CLOSE)


def test_masked_batch_is_the_batch_of_its_real_positions():
    layer, mask = layer_of(), torch.rand(6, 7) < 0.6
    alone = copy.deepcopy(layer)
    x = torch.randn(6, 5, 7, dtype=F64)
    padded = x.masked_fill(~mask[:, None], float("nan")).requires_grad_()
    real = x.movedim(1, -1)[mask].requires_grad_()
    y, want, g = layer(padded, mask=mask), alone(real), torch.randn_like(x)
    torch.testing.assert_close(y.movedim(1, -1)[mask], want, **CLOSE)
    assert y.movedim(1, -1)[~mask].abs().max() == 0
    y.backward(g)
    want.backward(g.movedim(1, -1)[mask])
    torch.testing.assert_close(padded.grad.movedim(1, -1)[mask], real.grad, **CLOSE)
    torch.testing.assert_close(layer.weight.grad, alone.weight.grad, **CLOSE)
    for (name, a), b in zip(layer.named_buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name, **CLOSE)


@pytest.mark.parametrize("options", [{"affine": False}, {"bias": False}], ids=str)
def test_without_weight_or_bias(options):
    layer = bn.BatchRenorm1d(5, dtype=F64, **OPEN, **options)
    x = torch.randn(6, 5, dtype=F64) * 2 + 1
    weight = 1.0 if layer.weight is None else layer.weight.detach().normal_()
    want = written_out(x, layer.running_mean, layer.running_var, 3.0, 5.0) * weight
    torch.testing.assert_close(layer(x).detach(), want, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["numbers", "ramps"])
@pytest.mark.parametrize(("kind", "plain", "shape"), KINDS)
def test_closed_limits_are_batch_norm_bit_for_bit(kind, plain, shape, how, dtype):
    options = {"r_max": 1.0, "d_max": 0.0} if how == "numbers" else {}
    layer, other = kind(5, activation="relu", **options), plain(5, activation="relu")
    for _ in range(3):
        x = (torch.randn(shape) * 3 + 1).to(dtype)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, want, g = layer(a), other(b), torch.randn_like(x)
        assert torch.equal(y, want)
        y.backward(g)
        want.backward(g)
        assert torch.equal(a.grad, b.grad)
        assert torch.equal(layer.weight.grad, other.weight.grad)
    assert_unchanged(other, {k: v for k, v in snapshot(layer).items() if k != "renorm_start"})
    assert torch.equal(layer.eval()(x), other.eval()(x))


def test_open_limits_train_as_evaluation_computes():
    # What the paper is about: with unbounded r and d, x̂·r + d is (x - μ)/σ exactly.
    layer = layer_of(r_max=1e9, d_max=1e9)
    x = torch.randn(3, 5, dtype=F64)
    want = copy.deepcopy(layer).eval()(x)
    torch.testing.assert_close(layer(x), want, **CLOSE)


def test_statistics_of_memory_are_those_before_the_batch():
    layer = layer_of(momentum=1.0)
    x = torch.randn(6, 5, dtype=F64) * 2 + 1
    want = expected(layer, x)
    torch.testing.assert_close(layer(x), want, **CLOSE)
    # Momentum 1: had the batch been committed before, r = 1 and d = 0 but for n / (n - 1).
    assert (want - layer.weight * written_out(x, x.mean(0), x.var(0), 3.0, 5.0)).abs().max() > 0.1


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize(("kind", "plain", "shape"), KINDS)
def test_memory_is_that_of_batch_norm(kind, plain, shape, momentum):
    layer, other = kind(5, momentum=momentum, **OPEN).double(), plain(5, momentum=momentum).double()
    for i in range(3):
        x = torch.randn(shape, dtype=F64) * (i + 1) + i
        layer(x)
        other(x)
    for name, value in other.named_buffers():
        torch.testing.assert_close(getattr(layer, name), value, msg=name, **CLOSE)


def test_limits_at_every_stage_of_the_papers_schedule():
    layer = bn.BatchRenorm1d(2)
    for batches, want in {
        0: (1.0, 0.0),
        5_000: (1.0, 0.0),
        15_000: (1 + 2 * 10_000 / 35_000, 2.5),
        25_000: (1 + 2 * 20_000 / 35_000, 5.0),
        40_000: (3.0, 5.0),
        10**9: (3.0, 5.0),
    }.items():
        layer.num_batches_tracked.fill_(batches)
        assert layer.limits() == pytest.approx(want)


def test_ramp_moves_with_committed_batches_only():
    ramp = bn.Ramp(1.0, 2.0, begin=0, end=10)
    layer = bn.BatchRenorm1d(2, r_max=ramp, d_max=ramp)
    layer(torch.randn(8, 2))
    with bn.skip_updates(layer):
        layer(torch.randn(8, 2))
    with bn.accumulate(layer):
        for _ in range(4):
            layer(torch.randn(8, 2))
    layer.eval()(torch.randn(8, 2))
    assert layer.limits() == pytest.approx((1.2, 1.2))


def test_limits_may_be_set_while_training():
    layer, x = layer_of(), torch.randn(6, 5, dtype=F64) * 4 + 3
    layer.r_max, layer.d_max = 1.5, bn.Ramp(0.5, 1.0, begin=10, end=20)
    want = expected(layer, x, 1.5, 0.5)
    torch.testing.assert_close(layer(x), want, **CLOSE)


def test_position_on_the_ramp_is_in_the_state():
    layer, file = layer_of(r_max=bn.Ramp(1.0, 3.0, begin=0, end=4)), io.BytesIO()
    layer.load_state_dict(nn.BatchNorm1d(5).double().state_dict())
    for _ in range(2):
        layer(torch.randn(6, 5, dtype=F64))
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = layer_of(r_max=layer.r_max)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.limits() == layer.limits() == (2.0, 5.0)


def test_ramps_begin_with_a_checkpoint_of_batch_norm():
    torchs = nn.BatchNorm1d(5)
    torchs.num_batches_tracked.fill_(90_000)
    layer = bn.BatchRenorm1d(5)
    layer.load_state_dict(torchs.state_dict())
    assert layer.num_batches_tracked.item() == 90_000
    assert layer.limits() == (1.0, 0.0)
    old = {k: v for k, v in torchs.state_dict().items() if k != "num_batches_tracked"}
    bn.BatchRenorm1d(5).load_state_dict(old)
    torchs.load_state_dict(layer.state_dict(), strict=False)
    layer.num_batches_tracked.add_(50_000)
    assert layer.limits() == (3.0, 5.0)
    layer.reset_running_stats()
    assert layer.limits() == (1.0, 0.0)


def test_copies_keep_everything():
    layer = layer_of(activation="elu")
    layer(torch.randn(6, 5, dtype=F64))
    x = torch.randn(6, 5, dtype=F64)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        assert torch.equal(other(x), copy.deepcopy(layer)(x))


@pytest.mark.parametrize("k", [1, 3])
def test_accumulate_is_one_commit_of_the_whole_batch(k):
    layer = layer_of(momentum=1.0)
    parts = [torch.randn(6, 5, dtype=F64) * (i + 1) for i in range(k)]
    want = [expected(layer, x) for x in parts]
    with bn.accumulate(layer):
        for x, y in zip(parts, want, strict=True):
            torch.testing.assert_close(layer(x), y, **CLOSE)
    torch.testing.assert_close(layer.running_var, torch.cat(parts).var(0), **CLOSE)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("forwards", [1, 2])
@pytest.mark.parametrize("ramp", [OPEN, {"r_max": bn.Ramp(1.0, 3.0, begin=0, end=2)}])
def test_recomputation_repeats_r_and_d_of_the_forward(reentrant, forwards, ramp):
    # By the time of the backward memory holds this batch: r and d would be others.
    plain = layer_of(momentum=0.5, **{**OPEN, "d_max": 0.0, **ramp})
    saved = copy.deepcopy(plain)
    results = []
    for layer, run in ((plain, lambda f, x: f(x)), (saved, checkpoint)):
        torch.manual_seed(1)
        xs = [
            torch.randn(6, 5, dtype=F64).mul_(3).add_(i).requires_grad_() for i in range(forwards)
        ]
        how = {"use_reentrant": reentrant} if run is checkpoint else {}
        ys = [run(layer, x, **how) for x in xs]
        torch.cat(ys).backward(torch.randn(6 * forwards, 5, dtype=F64))
        results.append([*(x.grad for x in xs), layer.weight.grad, *layer.buffers()])
    torch.testing.assert_close(*results, **CLOSE)


def test_another_forward_inside_a_backward_is_refused():
    layer = layer_of()
    x = torch.randn(8, 5, dtype=F64, requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: layer(torch.randn(8, 5, dtype=F64)).detach() * 0 + g)
    with pytest.raises(RuntimeError, match="must repeat one of the last 32 batches"):
        y.sum().backward()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_keeps_out_of_memory(value):
    layer = layer_of()
    before, x = snapshot(layer), torch.randn(6, 5, dtype=F64)
    x[0, 1] = value
    y = layer(x)
    assert y[:, 1].isnan().all()
    assert layer.running_mean[1] == before["running_mean"][1]
    assert layer.running_var[1] == before["running_var"][1]
    assert layer.num_nonfinite.tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("policy", ["running", "skip"])
def test_one_value_per_channel_follows_the_policy(policy):
    layer, x = layer_of(on_single=policy), torch.randn(1, 5, dtype=F64)
    before = snapshot(layer)
    want = copy.deepcopy(layer).eval()(x) if policy == "running" else layer.bias[None]
    torch.testing.assert_close(layer(x), want, **CLOSE)
    assert_unchanged(layer, before)


def test_empty_batch():
    layer = layer_of()
    x = torch.empty(0, 5, 4, dtype=F64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == (0, 5, 4)


def test_double_backward():
    layer = layer_of(channels=2, activation="tanh", momentum=0.0)
    x = torch.randn(5, 2, dtype=F64, requires_grad=True)
    w, b = (p.detach().clone().requires_grad_() for p in layer.parameters())
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    with torch.no_grad():
        dims = x.mean(0), (x.var(0, correction=0) + 1e-5).sqrt()
        r = (dims[1] / (var + 1e-5).sqrt()).clamp(1 / 3, 3)
        d = ((dims[0] - mean) / (var + 1e-5).sqrt()).clamp(-5, 5)

    def fixed(x, w, b):
        std = (x.var(0, correction=0) + 1e-5).sqrt()
        return (((x - x.mean(0)) / std * r + d) * w + b).tanh()

    g, v = torch.randn(5, 2, dtype=F64, requires_grad=True), torch.randn(5, 2, dtype=F64)
    seconds = []
    by_layer = lambda x, w, b: func.functional_call(layer, {"weight": w, "bias": b}, x)
    for f in (fixed, by_layer):
        first = torch.autograd.grad(f(x, w, b), x, g, create_graph=True)[0]
        seconds.append(torch.autograd.grad(first, [x, w, b, g], v, allow_unused=True))
    for a, e in zip(*seconds, strict=True):
        if e is not None or a is not None:
            torch.testing.assert_close(a, e, **CLOSE)


def test_transforms_of_functions():
    layer = layer_of()
    x, g = torch.randn(3, 6, 5, dtype=F64), torch.randn(6, 5, dtype=F64)
    loss = lambda x: (layer(x) * g).sum()
    bn.set_updates(layer, False)
    leaf = x[0].clone().requires_grad_()
    want = torch.autograd.grad(expected(layer, leaf), leaf, g)[0]
    torch.testing.assert_close(func.grad(loss)(x[0]), want, **CLOSE)
    torch.testing.assert_close(func.vmap(func.grad(loss))(x)[0], want, **CLOSE)
    _, tangent = func.jvp(layer, (x[0],), (x[1],))
    torch.testing.assert_close((tangent * g).sum(), (want * x[1]).sum(), **CLOSE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("limit", [3.0, bn.Ramp(1.0, 3.0, begin=1, end=3)])
def test_compiled_once_without_a_graph_break(training, limit):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    layer = layer_of(activation="relu", r_max=limit).train(training)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for i in range(4):
        x = torch.randn(8, 5, 3, dtype=F64) * 2 + i
        a, b, g = x.clone().requires_grad_(), x.clone().requires_grad_(), torch.randn_like(x)
        layer(a).backward(g)
        compiled(b).backward(g)
        torch.testing.assert_close(b.grad, a.grad, **CLOSE)
    for (name, p), q in zip(layer.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(q, p, msg=name, **CLOSE)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("training", [True, False])
def test_exported_program_is_plain_torch(training):
    layer, x = layer_of(activation="relu").train(training), torch.randn(6, 5, dtype=F64)
    program = torch.export.export(copy.deepcopy(layer), (x,))
    names = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert not any("batchnorm" in name for name in names)
    torch.testing.assert_close(program.module()(x), layer(x), **CLOSE)


def test_narrowed_layer_keeps_wide_memory():
    layer = bn.BatchRenorm2d(5, **OPEN).bfloat16()
    y = layer(torch.randn(6, 5, 4, 3).bfloat16().contiguous(memory_format=torch.channels_last))
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert layer.running_mean.dtype == torch.float32
    assert layer.renorm_start.dtype == layer.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"r_max": 0.9}, "r_max must be at least 1. Got r_max=0.9"),
        ({"d_max": -1.0}, "d_max must not be negative"),
        ({"r_max": bn.Ramp(0.5, 3.0, begin=0, end=1)}, "r_max must be at least 1"),
        ({"track_running_stats": False}, "renormalization needs running statistics"),
    ],
)
def test_wrong_arguments_are_refused(options, text):
    with pytest.raises(ValueError, match=f"BatchRenorm1d: {text}"):
        bn.BatchRenorm1d(3, **options)


def test_ramp_without_a_length_is_refused():
    with pytest.raises(ValueError, match="Ramp: end must come after begin"):
        bn.Ramp(1.0, 2.0, begin=5, end=5)


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_compiled_and_checkpointed_is_refused(place):
    # Computed again in the backward, r and d would come from memory that holds this batch.
    torch._dynamo.reset()
    layer = layer_of()
    if place == "inside":
        step = lambda x: checkpoint(layer, x, use_reentrant=False)
        step = torch.compile(step, backend="aot_eager")
    else:
        compiled = torch.compile(layer, backend="aot_eager")
        step = lambda x: checkpoint(compiled, x, use_reentrant=False)
    y = step(torch.randn(6, 5, dtype=F64, requires_grad=True))
    with pytest.raises(RuntimeError, match="a compiled layer cannot be computed again"):
        y.backward(torch.randn_like(y))
