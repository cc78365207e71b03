"""Weight and bias given at call time: conditional batch norm, style transfer."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.functional import batch_norm
from tests.layers.pairs import LAYERS, assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def tables(x, per_sample=True):
    shape = x.shape[:2] if per_sample else x.shape[1:2]
    return [torch.randn(shape, dtype=F64, requires_grad=True) for _ in range(2)]


def spread(table, x):
    return (
        table.reshape(*table.shape[:2], *(1,) * (x.dim() - 2))
        if table.dim() == 2
        else (table.view(1, -1, *(1,) * (x.dim() - 2)))
    )


def written_out(layer, x, weight=None, bias=None, residual=None):
    """The plain layer, then what the call brings, by torch."""
    y = layer(x)
    y = y if weight is None else y * spread(weight, x)
    y = y if bias is None else y + spread(bias, x)
    return y if residual is None else y + residual


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_equals_the_written_out_layer(kind, shape, per_sample, training):
    layer = kind(5, affine=False).double()
    layer(torch.randn(shape, dtype=F64) + 3)
    layer.train(training)
    twin = copy.deepcopy(layer)
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    leaves, g = [x, *tables(x, per_sample)], torch.randn(shape, dtype=F64)
    y = layer(x, weight=leaves[1], bias=leaves[2])
    want = written_out(twin, *leaves)
    torch.testing.assert_close(y, want, **CLOSE)
    got = torch.autograd.grad(y, leaves, g)
    torch.testing.assert_close(got, torch.autograd.grad(want, leaves, g), **CLOSE)
    for a, b in zip(layer.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("given", ["weight", "bias", "mixed"])
def test_one_of_both_or_one_row_for_all(given):
    layer = bn.BatchNorm1d(5, affine=False).double()
    x = torch.randn(6, 5, 3, dtype=F64)
    weight, bias = tables(x)
    options = {"weight": {"weight": weight}, "bias": {"bias": bias}}.get(
        given, {"weight": weight, "bias": tables(x, per_sample=False)[1]}
    )
    want = written_out(copy.deepcopy(layer), x, **options)
    y = layer(x, **options)
    torch.testing.assert_close(y, want, **CLOSE)
    leaves, g = list(options.values()), torch.randn_like(x)
    got = torch.autograd.grad(y, leaves, g)
    torch.testing.assert_close(got, torch.autograd.grad(want, leaves, g), **CLOSE)


def test_mask_residual_and_activation():
    layer = bn.BatchNorm1d(5, affine=False, activation="silu").double()
    plain = bn.BatchNorm1d(5, affine=False).double()
    x, r = torch.randn(2, 6, 5, 4, dtype=F64)
    weight, bias = tables(x)
    mask = torch.rand(6, 4) < 0.7
    x_hat = plain(x, mask=mask)
    want = nn.functional.silu(x_hat * weight[..., None] + bias[..., None] + r)
    want = torch.where(mask[:, None], want, 0.0)
    y = layer(x, residual=r, mask=mask, weight=weight, bias=bias)
    torch.testing.assert_close(y, want, **CLOSE)


def test_functional_with_and_without_statistics():
    x = torch.randn(6, 5, 4, dtype=F64)
    weight, bias = tables(x)
    bare, stats = batch_norm(x)
    y, same = batch_norm(x, weight, bias)
    torch.testing.assert_close(y, bare * weight[..., None] + bias[..., None], **CLOSE)
    torch.testing.assert_close(same.var, stats.var, **CLOSE)
    assert same.count.shape == stats.count.shape
    y, _ = batch_norm(x + 1, weight, bias, stats=stats)
    bare, _ = batch_norm(x + 1, stats=stats)
    torch.testing.assert_close(y, bare * weight[..., None] + bias[..., None], **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_and_double_backward(training):
    layer = bn.BatchNorm1d(2, affine=False, activation="tanh").double()
    layer(torch.randn(9, 2, dtype=F64))
    layer.train(training)
    bn.set_updates(layer, False)
    x = torch.randn(4, 2, 3, dtype=F64, requires_grad=True)

    def f(x, weight, bias):
        return layer(x, weight=weight, bias=bias)

    assert torch.autograd.gradcheck(f, (x, *tables(x)))
    assert torch.autograd.gradgradcheck(f, (x, *tables(x)))


def test_narrow_tables_from_autocast_give_wide_gradients_back():
    layer = bn.BatchNorm2d(3, affine=False)
    x = torch.randn(4, 3, 2, 2)
    weight = torch.randn(4, 3, dtype=torch.bfloat16, requires_grad=True)
    layer(x, weight=weight).backward(torch.randn_like(x))
    assert weight.grad.dtype == torch.bfloat16
    assert weight.grad.all()


@pytest.mark.parametrize("training", [True, False])
def test_compiles_and_exports(training):
    class Styled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = bn.BatchNorm2d(3, affine=False)
            self.style = nn.Linear(2, 6)

        def forward(self, x, code):
            weight, bias = self.style(code).chunk(2, 1)
            return self.norm(x, weight=weight, bias=bias)

    torch._dynamo.reset()
    model = Styled().double().train(training)
    twin = copy.deepcopy(model)
    x, code = torch.randn(4, 3, 2, 2, dtype=F64), torch.randn(4, 2, dtype=F64)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    y, z = model(x, code), compiled(x, code)
    torch.testing.assert_close(z, y, **CLOSE)
    g = torch.randn_like(x)
    y.backward(g)
    z.backward(g)
    torch.testing.assert_close(twin.style.weight.grad, model.style.weight.grad, **CLOSE)
    model.eval()
    exported = torch.export.export(model, (x, code)).module()
    torch.testing.assert_close(exported(x, code), model(x, code), **CLOSE)
    torch._dynamo.reset()


def test_many_styles_by_vmap():
    layer = bn.BatchNorm1d(3, affine=False).double().eval()
    x, weights = torch.randn(4, 3, dtype=F64), torch.randn(5, 4, 3, dtype=F64)
    y = torch.func.vmap(lambda w: layer(x, weight=w))(weights)
    torch.testing.assert_close(y[2], layer(x, weight=weights[2]), **CLOSE)


@pytest.mark.parametrize(
    ("options", "given", "error", "rule"),
    [
        ({}, (4, 3), ValueError, "affine=False"),
        ({"affine": False}, (3, 3), ValueError, r"\(N, C\) = \(4, 3\).*\(3, 3\)"),
        ({"affine": False}, (4, 2), ValueError, r"\(N, C\) = \(4, 3\)"),
        ({"affine": False}, (4,), ValueError, "one value per channel"),
        ({"affine": False}, (4, 3, 1), ValueError, "one value per channel"),
    ],
)
def test_what_does_not_fit_is_refused(options, given, error, rule):
    layer = bn.BatchNorm1d(3, **options)
    before = snapshot(layer)
    with pytest.raises(error, match=rule):
        layer(torch.randn(4, 3, 2), weight=torch.randn(given))
    assert_unchanged(layer, before)


def test_empty_batch():
    layer = bn.BatchNorm1d(3, affine=False)
    x, w = torch.randn(0, 3, requires_grad=True), torch.randn(0, 3, requires_grad=True)
    y = layer(x, weight=w)
    y.sum().backward()
    assert y.shape == x.grad.shape == w.grad.shape == (0, 3)
