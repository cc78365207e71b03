"""In place: the output over the input, exact gradients from the output alone, clear refusals."""

import pytest
import torch

import batchnorm as bn
from batchnorm import BatchStats
from tests.activations import ACTS
from tests.tolerance import ulp

F64 = torch.float64


def tensors(dtype=F64, shape=(6, 4, 5, 5)):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=g, dtype=dtype)
    w = torch.rand(shape[1], generator=g, dtype=dtype) + 0.5
    w[1::2] *= -1
    b = torch.randn(shape[1], generator=g, dtype=dtype)
    return x, w, b, torch.randn(shape, generator=g, dtype=dtype)


def run(inplace, act, slope, x, w, b, g, *, stats=None, mask=None):
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    x = leaves[0] * 1.0
    options = {"activation": act, "slope": slope, "stats": stats, "mask": mask}
    y, out = bn.functional.batch_norm(x, *leaves[1:], inplace=inplace, **options)
    assert (y.data_ptr() == x.data_ptr()) == inplace
    y.backward(g)
    return [y.detach(), out.mean, out.var, *[t.grad for t in leaves]]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("act", "slope"), [("identity", None), ("leaky_relu", 0.2)])
def test_gradients_in_place_equal_those_out_of_place(act, slope, training, layout):
    x, w, b, g = tensors()
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    stats = None
    if not training:
        stats = BatchStats(count=torch.tensor(9), mean=torch.randn(4, dtype=F64), var=w * w)
    want = run(False, act, slope, x, w, b, g, stats=stats)
    got = run(True, act, slope, x, w, b, g, stats=stats)
    for a, e in zip(got, want, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("act", "slope"), [("identity", None), ("leaky_relu", 0.2)])
def test_gradients_in_place_with_a_mask(act, slope):
    x, w, b, g = tensors()
    mask = torch.rand(6, 5, 5) < 0.7
    want = run(False, act, slope, x, w, b, g, mask=mask)
    got = run(True, act, slope, x, w, b, g, mask=mask)
    for a, e in zip(got, want, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-11, atol=1e-11)


def test_float32_gradients_in_place_lose_little():
    # inplace_abn replaces weights by |weight| + eps and cannot load ordinary ones; ours can.
    x, w, b, g = tensors(torch.float32)
    want = run(False, "identity", None, *(t.double() for t in (x, w, b, g)))
    got = run(True, "identity", None, x, w, b, g)
    for a, e in zip(got, want, strict=True):
        bound = 256 * ulp(torch.float32) * float(e.abs().max())
        torch.testing.assert_close(a.double(), e, rtol=0, atol=bound)


@pytest.mark.parametrize("act", ACTS)
def test_any_activation_in_place_without_grad(act):
    x, w, b, _ = tensors()
    want, _ = bn.functional.batch_norm(x, w, b, activation=act)
    with torch.no_grad():
        got, _ = bn.functional.batch_norm(x, w, b, activation=act, inplace=True)
    assert got.data_ptr() == x.data_ptr()
    assert torch.equal(got, want)


def test_in_place_without_parameters():
    x, _, _, g = tensors()
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    for leaf, inplace in zip(leaves, (True, False), strict=True):
        bn.functional.batch_norm(leaf * 1.0, inplace=inplace)[0].backward(g)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("act", ["relu", "silu", "gelu", "hardswish"])
def test_activation_that_cannot_be_inverted_is_refused_with_grad(act):
    leaf = torch.randn(6, 4, requires_grad=True)
    x = leaf * 1.0
    before = x.detach().clone()
    with pytest.raises((ValueError, RuntimeError), match=f"(?s)in ?place.*{act}|{act}.*in ?place"):
        bn.functional.batch_norm(x, activation=act, inplace=True)
    assert torch.equal(x, before)


@pytest.mark.parametrize("tiny", [0.0, 1e-30])
def test_weight_too_small_to_divide_by_is_refused_before_anything_is_written(tiny):
    x, w, b, _ = tensors(torch.float32)
    w[2] = tiny
    leaf = x.clone().requires_grad_()
    y = leaf * 1.0
    with pytest.raises(ValueError, match=r"(?i)weight"):
        bn.functional.batch_norm(y, w.requires_grad_(), b, inplace=True)
    assert torch.equal(y, x)


def test_zero_weight_is_fine_in_place_without_grad():
    x, _, b, _ = tensors()
    with torch.no_grad():
        y, _ = bn.functional.batch_norm(x, torch.zeros(4, dtype=F64), b, inplace=True)
    assert torch.equal(y, b.view(1, 4, 1, 1).expand_as(y))


def test_leaf_that_requires_grad_is_refused_as_by_torch():
    x = torch.randn(6, 4, requires_grad=True)
    before = x.detach().clone()
    with pytest.raises(RuntimeError, match="leaf"):
        bn.functional.batch_norm(x, inplace=True)
    assert torch.equal(x.detach(), before)


def test_producer_that_needs_its_output_is_told_by_autograd():
    leaf = torch.randn(6, 4, requires_grad=True)
    x = leaf.exp()  # exp's backward reads its output, which is overwritten here
    y, _ = bn.functional.batch_norm(x, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.randn_like(y))


def test_layer_in_place_equals_the_layer():
    torch.manual_seed(0)
    layers = [bn.BatchNorm2d(4, activation="leaky_relu", slope=0.1, inplace=i) for i in (0, 1)]
    leaves = [torch.randn(6, 4, 5, 5).requires_grad_()]
    leaves.append(leaves[0].detach().clone().requires_grad_())
    g = torch.randn(6, 4, 5, 5)
    for layer, leaf in zip(layers, leaves, strict=True):
        layer(leaf * 1.0).backward(g)
    bound = 64 * ulp(torch.float32)
    torch.testing.assert_close(leaves[1].grad, leaves[0].grad, rtol=bound, atol=bound)
    a, b = (layer.state_dict() for layer in layers)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_expanded_input_is_refused():
    # Its elements share memory: one write would be many.
    x = torch.randn(1, 4, 1).expand(3, 4, 5)
    before = x.clone()
    with pytest.raises(RuntimeError, match="expand"):
        bn.functional.batch_norm(x, inplace=True)
    assert torch.equal(x, before)


def test_double_backward_in_place_is_an_error_and_not_a_wrong_number():
    leaf = torch.randn(6, 4, dtype=F64, requires_grad=True)
    y, _ = bn.functional.batch_norm(leaf * 1.0, inplace=True)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(y, leaf, torch.randn_like(y), create_graph=True)


def test_view_of_a_larger_tensor_in_place():
    leaf = torch.randn(6, 6, 5, dtype=F64, requires_grad=True)
    g = torch.randn(6, 6, 5, dtype=F64)
    grads = []
    for inplace in (True, False):
        base = leaf * 1.0
        y, _ = bn.functional.batch_norm(base[:, 1:5], inplace=inplace)
        if not inplace:
            base = torch.cat([base[:, :1], y, base[:, 5:]], 1)
        grads.append(torch.autograd.grad(base, leaf, g)[0])
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_version_of_the_overwritten_input_moves_on_without_grad():
    x = torch.randn(6, 4)
    version = x._version
    with torch.no_grad():
        bn.functional.batch_norm(x, inplace=True)
    assert x._version > version
