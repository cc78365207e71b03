"""Activations of the kernels at single points: kinks, tails, zeros, infinities."""

import pytest
import torch

from tests.activations import ACTS
from tests.tolerance import STEPS, ulp

NARROW = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
POINTS = [-1e3, -30.0, -6.0, -3.0, -1.5, -0.0, 0.0, 0.25, 3.0, 5.5, 6.0, 6.5, 30.0, 1e3]


def columns(dtype, layout, extra=()):
    """Each point 19 times beside the others: whole vectors and a tail of every width."""
    points = torch.tensor([*POINTS, *extra], dtype=dtype)
    x = points.repeat(19).reshape(1, 1, -1, 1)
    return x if layout == "contiguous" else x.reshape(-1, 1)


def unit(dtype):
    """Statistics that hand x to the activation as it is."""
    acc = torch.promote_types(dtype, torch.float32)
    return torch.zeros(1, dtype=acc), torch.ones(1, dtype=acc)


@pytest.mark.parametrize("layout", ["contiguous", "rows"])
@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_value_at_points(kernels, act, dtype, layout):
    x = columns(dtype, layout)
    code = (act.code, act.slope)
    y = kernels.batch_norm_apply(x, *unit(dtype), None, None, None, None, *code)
    want = act(x.double())
    bound = STEPS * (ulp(dtype) * want.abs() + torch.finfo(dtype).tiny)
    bound += STEPS * ulp(torch.promote_types(dtype, torch.float32)) * act.lipschitz
    assert ((y.double() - want).abs() <= bound).all()


@pytest.mark.parametrize("layout", ["contiguous", "rows"])
@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_derivative_at_points_is_torchs_also_at_kinks(kernels, act, dtype, layout):
    x = columns(dtype, layout)
    wide = x.double().requires_grad_()
    (want,) = torch.autograd.grad(act(wide).sum(), wide)
    args = (None, None, *unit(dtype), None, None, None, act.code, act.slope, False)
    got = kernels.batch_norm_eval_backward(torch.ones_like(x), x, *args)[0]
    acc = ulp(torch.promote_types(dtype, torch.float32))
    # pre² enters the exponent of gelu: its rounding counts |pre| times, where exp is not yet 0.
    bound = ulp(dtype) * want.abs() + 8 * STEPS * acc
    assert ((got.double() - want).abs() <= bound).all()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_infinities_give_the_limit_or_nan_and_nan_stays(kernels, act, dtype):
    # torch gives NaN at some infinities (inf * 0); the limit is as good, another number is not.
    inf, nan = float("inf"), float("nan")
    x = columns(dtype, "contiguous", (inf, -inf, nan))
    code = (act.code, act.slope)
    y = kernels.batch_norm_apply(x, *unit(dtype), None, None, None, None, *code).double()
    limit = act(x.double().clamp(-1e6, 1e6))
    limit = torch.where(limit.abs() > 1e3, limit * inf, limit)
    for here in (x == inf, x == -inf):
        want = limit[here]
        near = (y[here] == want) | ((y[here] - want).abs() <= STEPS * ulp(dtype)) | y[here].isnan()
        assert near.all(), f"{y[here][0]} for a limit of {want[0]}"
    assert y[x.isnan()].isnan().all()
    assert y[x.isfinite()].isfinite().all()
