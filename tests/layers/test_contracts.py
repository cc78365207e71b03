"""What every variant keeps of the plain layer's contracts."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot
from tests.layers.variants import VARIANTS, C, twice

F64 = torch.float64
CLOSE = {"rtol": 1e-9, "atol": 1e-10}
N, L = 12, 5

pytestmark = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, **CLOSE, msg=name)


def trained(variant, **options):
    """A layer that has seen three batches, and a fourth batch."""
    layer = variant.build(**options)
    xs = torch.randn(4, N, C, L, dtype=F64, generator=torch.Generator().manual_seed(1))
    for x in xs[:3]:
        variant.run(layer, x * 2 + 1)

    return layer, xs[3]


def test_is_a_batch_norm_to_other_libraries(variant):
    layer = variant.build()
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    assert (layer.num_features, layer.eps, layer.momentum) == (C, 1e-5, 0.1)
    assert type(layer).__name__ in repr(layer)


def test_takes_torchs_arguments_by_position(variant):
    layer = variant.kind(C, 1e-3, 0.3, False, True, **variant.options)
    assert (layer.eps, layer.momentum, layer.weight, layer.bias) == (1e-3, 0.3, None, None)


def test_has_torchs_names_in_its_state(variant):
    assert {*nn.BatchNorm1d(C).state_dict()} <= {*variant.build().state_dict()}


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state_dict"])
def test_copies_behave_alike(variant, way):
    layer, x = trained(variant)
    if way == "deepcopy":
        other = copy.deepcopy(layer)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(layer))
    else:
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        other = variant.build()
        other.load_state_dict(torch.load(file, weights_only=True))
    for training in (False, True):
        pair = [variant.run(each.train(training), x) for each in (layer, other)]
        torch.testing.assert_close(*pair, rtol=0, atol=0)
    assert_same_state(layer, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_stay_wide_in_a_narrow_model(variant, dtype):
    layer, x = trained(variant)
    layer = layer.float().to(dtype)
    assert all(b.dtype in (torch.float32, torch.int64) for b in layer.buffers())
    for training in (True, False):
        y = variant.run(layer.train(training), x.to(dtype))
        assert y.dtype == dtype
        assert y.isfinite().all()


def test_training_centres_what_it_normalises(variant):
    layer = variant.build(affine=False)
    y = variant.run(layer, torch.randn(N, C, L, dtype=F64) * 3 + 5)
    if not isinstance(layer, bn.BatchRenorm1d):
        torch.testing.assert_close(y.mean((0, 2)), torch.zeros(C, dtype=F64), rtol=0, atol=1e-6)


def test_evaluation_changes_nothing_and_knows_no_neighbours(variant):
    layer, x = trained(variant)
    layer.eval()
    before = snapshot(layer)
    y = variant.run(layer, x)
    other = x.clone()
    other[1:] = 7
    torch.testing.assert_close(variant.run(layer, other)[0], y[0], **CLOSE)
    assert_unchanged(layer, before)


@pytest.mark.parametrize("training", [True, False])
def test_residual_and_activation_are_what_they_replace(variant, training):
    fused, x = trained(variant, activation="silu")
    plain, _ = trained(variant)
    fused.train(training)
    plain.train(training)
    g = torch.randn_like(x)
    grads = []
    for layer in (fused, plain):
        leaves = [x.clone().requires_grad_(), torch.ones_like(x).requires_grad_()]
        if layer is fused:
            y = variant.run(layer, leaves[0], residual=leaves[1])
        else:
            y = nn.functional.silu(variant.run(layer, leaves[0]) + leaves[1])
        grads.append([y, *torch.autograd.grad(y, [*leaves, *layer.parameters()], g)])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    assert_same_state(fused, plain)


@pytest.mark.parametrize("training", [True, False])
def test_padding_holds_anything_and_gets_nothing(variant, training):
    mask = torch.arange(L) < torch.tensor([5, 3, 4] * (N // 3))[:, None]
    results = []
    for filler in (0.0, float("nan")):
        layer, x = trained(variant)
        layer.train(training)
        x = x.masked_fill(~mask[:, None], filler).requires_grad_()
        y = variant.run(layer, x, mask=mask)
        g = torch.randn(x.shape, dtype=F64, generator=torch.Generator().manual_seed(2))
        results.append([y, *torch.autograd.grad(y, [x, *layer.parameters()], g)])
        assert (y.movedim(1, -1)[~mask] == 0).all()
        assert (results[-1][1].movedim(1, -1)[~mask] == 0).all()
        results[-1] += list(layer.buffers())
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_finite_differences(variant, training):
    layer, _ = trained(variant)
    layer.train(training)
    bn.set_updates(layer, False)
    x = torch.randn(N, C, 2, dtype=F64, requires_grad=True)
    if isinstance(layer, bn.BatchRenorm1d) and training:
        pytest.skip("r and d are outside the gradient by definition; tested in test_renorm.py")
    assert torch.autograd.gradcheck(
        lambda x, *_: variant.run(layer, x), (x, *layer.parameters()), fast_mode=True
    )


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_batch_counts_once(variant, reentrant):
    plain, saved = twice(variant)
    for _ in range(2):
        x = torch.randn(N, 3, L, dtype=F64)
        g = torch.randn(N, 2, L - 2, dtype=F64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        plain(a).backward(g)
        checkpoint(saved, b, use_reentrant=reentrant).backward(g)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    assert_same_state(plain, saved)


def test_accumulation_commits_once(variant):
    layer = variant.build(momentum=1.0)
    xs = torch.randn(2, N, C, L, dtype=F64) + torch.tensor([0.0, 3.0]).view(2, 1, 1, 1)
    with bn.accumulate(layer):
        for x in xs:
            variant.run(layer, x)
    tracked = layer.num_batches_tracked
    assert int(tracked.max()) == 1

    whole = variant.build(momentum=1.0)
    x = xs.flatten(0, 1)
    whole(x, **{k: v.repeat(2) if isinstance(v, torch.Tensor) else v
                for k, v in variant.call(N).items()})  # fmt: skip
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, name), getattr(whole, name), **CLOSE)


def test_updates_can_be_skipped(variant):
    layer, x = trained(variant)
    before = snapshot(layer)
    with bn.skip_updates(layer):
        variant.run(layer, x)
    assert_unchanged(layer, before)


def test_a_batch_that_is_not_finite_stays_out_of_memory(variant):
    layer, x = trained(variant)
    mean = layer.running_mean.clone()
    x[:, 0] = float("nan")
    variant.run(layer, x)
    assert all(buffer.isfinite().all() for buffer in layer.buffers())
    changed = (layer.running_mean != mean).reshape(-1, C).any(0)
    assert not changed[0]
    assert changed[3:].all()


def test_an_empty_batch_gives_an_empty_output(variant):
    layer, _ = trained(variant)
    mean = layer.running_mean.clone()
    x = torch.randn(0, C, L, dtype=F64, requires_grad=True)
    y = variant.run(layer, x)
    y.backward(torch.zeros_like(y))
    assert y.shape == (0, C, L)
    assert torch.equal(layer.running_mean, mean)


def test_a_refused_call_leaves_the_layer_as_it_was(variant):
    layer, x = trained(variant)
    before = snapshot(layer)
    for bad in (x[:, :4], x.long(), x[0, 0]):
        with pytest.raises((ValueError, TypeError, RuntimeError), match=type(layer).__name__):
            variant.run(layer, bad)
    assert_unchanged(layer, before)


@pytest.mark.parametrize("training", [True, False])
def test_compiles_without_a_graph_break(variant, training):
    torch._dynamo.reset()  # the variants share one forward, whose recompilations are limited
    eager, compiled = twice(variant)
    eager.train(training)
    compiled.train(training)
    step = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = torch.randn(N, 3, L, dtype=F64)
        g = torch.randn(N, 2, L - 2, dtype=F64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = eager(a), step(b)
        torch.testing.assert_close(y, z, **CLOSE)
        y.backward(g)
        z.backward(g)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    assert_same_state(eager, compiled)


def test_exports_for_inference(variant):
    net, _ = twice(variant)
    x = torch.randn(N, 3, L, dtype=F64)
    net(x)
    net.eval()
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x), **CLOSE)
