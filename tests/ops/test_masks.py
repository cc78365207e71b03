"""Masks at the operators: padding enters nothing, receives nothing and comes out as zero."""

import dataclasses

import pytest
import torch

from tests.calls import backward, evaluate, train
from tests.cases import DTYPES, make_case
from tests.tolerance import assert_within, floors

LAYOUTS = ["contiguous", "channels_last"]
SHAPES = [(9, 6), (4, 6, 11), (4, 6, 7, 7), (2, 24, 30, 30), (2, 6, 3, 4, 5)]


def poisoned(case, value):
    """The case with ``value`` at every padded position of input, residual and cotangent."""
    padded = ~case.mask.unsqueeze(1)

    def poison(t):
        return None if t is None else t.clone().masked_fill_(padded, value)

    residual = torch.randn_like(case.input)
    return dataclasses.replace(
        case, input=poison(case.input), grad=poison(case.grad), residual=poison(residual)
    )


@pytest.mark.parametrize("act", ["identity", "relu", "sigmoid", "gelu"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_padding_does_not_leak_whatever_it_holds(kernels, shape, layout, value, act):
    case = make_case(shape, torch.float32, layout, "masked", act)
    clean, dirty = poisoned(case, 0.0), poisoned(case, value)
    dirty = dataclasses.replace(
        dirty, residual=clean.residual.masked_fill(~case.mask.unsqueeze(1), value)
    )
    a, b = train(kernels, clean), train(kernels, dirty)
    for name in ("output", "mean", "var", "invstd", "count"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    padded = ~case.mask.unsqueeze(1).expand(case.input.shape)
    assert (b.output[padded] == 0).all()
    ga = backward(kernels, clean, a.mean, a.invstd, a.output)
    gb = backward(kernels, dirty, b.mean, b.invstd, b.output)
    for name in ("grad_input", "grad_weight", "grad_bias", "grad_residual"):
        assert torch.equal(getattr(ga, name), getattr(gb, name)), name
    assert (gb.grad_input[padded] == 0).all()
    assert (gb.grad_residual[padded] == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_of_eval_comes_out_zero(kernels, layout):
    case = poisoned(make_case((4, 6, 7, 7), torch.float32, layout, "masked"), float("nan"))
    y = evaluate(kernels, case)
    padded = ~case.mask.unsqueeze(1).expand(case.input.shape)
    assert (y[padded] == 0).all()
    assert y.isfinite().all()
    invstd = (case.running_var + case.eps).rsqrt()
    grads = backward(kernels, case, case.running_mean, invstd, y, training=False)
    assert grads.grad_input.isfinite().all()
    assert (grads.grad_input[padded] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fully_masked_batch_has_count_zero_and_gives_zeros(kernels, shape, layout, dtype):
    case = make_case(shape, dtype, layout, "masked", act="sigmoid")
    case.mask.zero_()
    case = poisoned(case, float("nan"))
    out = train(kernels, case)
    assert out.count.item() == 0
    for got in (out.output, out.mean, out.var):
        assert torch.equal(got, torch.zeros_like(got))
    grads = backward(kernels, case, out.mean, out.invstd, out.output)
    for got in (grads.grad_input, grads.grad_weight, grads.grad_bias, grads.grad_residual):
        assert torch.equal(got, torch.zeros_like(got))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mask_of_all_true_is_no_mask(kernels, shape, layout):
    case = make_case(shape, torch.float32, layout, "masked")
    case.mask.fill_(True)
    bare = dataclasses.replace(case, mask=None)
    a, b = train(kernels, case), train(kernels, bare)
    floor = floors(bare)
    assert_within(a.output, b.output, None, 2 * floor.output, "output")
    assert_within(a.mean, b.mean, None, 2 * floor.mean, "mean")
    assert_within(a.var, b.var, None, 2 * floor.var, "var")
    assert a.count == b.count


def test_one_real_position_gives_its_own_value_as_mean(kernels):
    case = make_case((4, 6, 5), form="masked", act="identity")
    case.mask.zero_()[2, 3] = True
    out = train(kernels, case)
    assert out.count.item() == 1
    assert torch.equal(out.mean, case.input[2, :, 3])
    assert torch.equal(out.var, torch.zeros(6))
    assert torch.equal(out.output[2, :, 3], case.bias)
