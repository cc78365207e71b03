"""Laws that hold for every batch norm, and their exceptions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import batchnorm as bn
from tests.layers.pairs import LAYERS
from tests.strategies import cases
from tests.tolerance import assert_within, floors

F64 = torch.float64
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@given(case=cases(min_count=2, dtypes=(F64,)), seed=st.integers(0, 99))
def test_order_of_the_batch_does_not_matter(case, seed):
    order = torch.randperm(len(case.input), generator=torch.Generator().manual_seed(seed))
    options = {"activation": case.act.name, "eps": case.eps}

    def call(x, r, m):
        return bn.functional.batch_norm(x, case.weight, case.bias, residual=r, mask=m, **options)

    def pick(t):
        return None if t is None else t[order]

    y, stats = call(case.input, case.residual, case.mask)
    other, other_stats = call(pick(case.input), pick(case.residual), pick(case.mask))
    floor = floors(case)
    assert_within(other, y[order], None, 2 * floor.output * max(1, case.act.slope), "output")
    assert_within(other_stats.mean, stats.mean, None, 2 * floor.mean, "mean")
    assert_within(other_stats.var, stats.var, None, 2 * floor.var, "var")


@pytest.mark.parametrize("scale", [2.0, -4.0, 0.5])
@pytest.mark.parametrize("shift", [0.0, 8.0])
@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_scale_and_shift_of_the_input_cancel_when_eps_scales_too(kind, shape, scale, shift):
    x = torch.randn(shape, dtype=F64)
    a = kind(5, eps=1e-2).double()(x)
    b = kind(5, eps=1e-2 * scale**2).double()(scale * x + shift)
    torch.testing.assert_close(b, a * (1 if scale > 0 else -1), **CLOSE)


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_output_has_the_mean_of_the_bias_and_the_spread_of_the_weight(kind, shape):
    layer = kind(5, eps=1e-12).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    y = layer(torch.randn(shape, dtype=F64) * 7 + 3).movedim(1, 0).flatten(1)
    torch.testing.assert_close(y.mean(1), layer.bias, **CLOSE)
    torch.testing.assert_close(y.std(1, correction=0), layer.weight.abs(), **CLOSE)


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_channels_are_independent(kind, shape):
    x = torch.randn(shape, dtype=F64)
    whole = kind(5).double()(x)
    for c in range(5):
        one = kind(1).double()(x[:, c : c + 1])
        torch.testing.assert_close(one, whole[:, c : c + 1], **CLOSE)


@pytest.mark.parametrize(("kind", "shape"), LAYERS)
def test_gradient_is_blind_to_shift_and_scale(kind, shape):
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    y = kind(5, eps=1e-12).double()(x)
    y.backward(torch.randn(shape, dtype=F64))
    rows = x.grad.movedim(1, 0).flatten(1)
    assert rows.abs().max() > 1e-2
    torch.testing.assert_close(rows.sum(1), torch.zeros(5, dtype=F64), **CLOSE)
    along = (rows * x.detach().movedim(1, 0).flatten(1)).sum(1)
    torch.testing.assert_close(along, torch.zeros(5, dtype=F64), **CLOSE)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_batches_that_are_split_merge_to_the_population(parts):
    x = torch.randn(12, 3, 4, dtype=F64) * 3 + 1e3
    pieces = [bn.functional.batch_norm_stats(p) for p in x.chunk(parts)]
    merged = bn.BatchStats.merge_all(pieces)
    whole = bn.functional.batch_norm_stats(x)
    torch.testing.assert_close(merged.mean, whole.mean, **CLOSE)
    torch.testing.assert_close(merged.var, whole.var, **CLOSE)
    assert merged.count.max().item() == whole.count.item()


def test_eval_after_one_full_commit_equals_train():
    layer = bn.BatchNorm2d(5, momentum=1.0, activation="relu").double()
    x = torch.randn(6, 5, 4, 3, dtype=F64)
    n = x.numel() // 5
    y = layer(x)
    layer.running_var.mul_((n - 1) / n)
    torch.testing.assert_close(layer.eval()(x), y, **CLOSE)


def test_the_same_input_gives_the_same_bits():
    layer = bn.BatchNorm2d(16, activation="silu")
    x = torch.randn(8, 16, 14, 14)
    assert torch.equal(layer(x), layer(x))
