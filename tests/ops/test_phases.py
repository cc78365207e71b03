"""The phase operators: each against the oracle, and their chain against the fused operator."""

import pytest
import torch

from batchnorm import reference
from tests.activations import ACTS
from tests.calls import Forward, backward, oracle_train, same_layout, saved, train
from tests.calls import wants_grad_residual as wants
from tests.cases import GRID, LAYOUTS, Case, make_case
from tests.peer import peer, preactivation
from tests.tolerance import assert_within, floors, off_kinks

SHAPES = [(33, 24), (9, 64, 7, 7), (3, 10, 14, 14), (5, 3, 31), (2, 7, 5, 4, 3), (1, 3, 60, 60)]


def chain(k, case: Case) -> tuple[Forward, tuple[torch.Tensor, ...]]:
    """measure → apply, then reduce → apply: what distributed variants call."""
    mean, var, count = k.batch_norm_stats(case.input, case.mask)
    invstd = (var + case.eps).rsqrt()
    params = (case.weight, case.bias)
    rest = (case.mask, *case.code)
    y = k.batch_norm_apply(case.input, mean, invstd, *params, case.residual, *rest)
    head = (case.grad, case.input, *params, mean, invstd)
    kept = saved(case, y)
    sums = k.batch_norm_backward_reduce(*head, *kept, *rest)
    dx, dr = k.batch_norm_backward_apply(*head, *sums, count, *kept, *rest, wants(case))
    return Forward(y, mean, var, invstd, count), (dx, dr, *sums)


@pytest.mark.parametrize(("dtype", "layout", "form"), GRID)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_chain_of_phases_matches_oracle(kernels, shape, dtype, layout, form):
    case = make_case(shape, dtype, layout, form)
    case = off_kinks(case, preactivation(case))
    floor, torchs, oracle = floors(case), peer(case), oracle_train(case)
    out, (dx, dr, sum_dy, sum_dy_xhat) = chain(kernels, case)
    want, back = oracle.forward, oracle.backward

    assert out.count.item() == case.full_mask.sum()
    assert same_layout(out.output, case.input)
    assert same_layout(dx, case.input)
    assert_within(out.mean, want.mean, torchs.mean, floor.mean, "mean")
    assert_within(out.var, want.var, torchs.var, floor.var, "var")
    assert_within(out.output, want.output, torchs.output, floor.output, "output")
    assert_within(dx, back.grad_input, torchs.grad_input, floor.grad_input, "dx")
    assert_within(sum_dy, back.grad_bias, torchs.grad_bias, floor.grad_bias, "sum_dy")
    gw = back.grad_weight
    assert_within(sum_dy_xhat, gw, torchs.grad_weight, floor.grad_weight, "sum_dy_xhat")
    if wants(case):
        assert_within(dr, back.grad_residual, torchs.grad_residual, floor.grad_residual, "dr")
    else:
        assert dr.shape == (0,)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("form", ["act", "residual_act", "masked"])
def test_chain_agrees_with_fused_operator(kernels, act, form):
    case = make_case((6, 10, 5, 7), torch.float64, form=form, act=act)
    fused = train(kernels, case)
    back = backward(kernels, case, fused.mean, fused.invstd, fused.output)
    out, (dx, _, sum_dy, sum_dy_xhat) = chain(kernels, case)
    floor = floors(case)
    assert_within(out.output, fused.output, None, floor.output, "output")
    assert_within(dx, back.grad_input, None, floor.grad_input, "dx")
    assert_within(sum_dy, back.grad_bias, None, floor.grad_bias, "sum_dy")
    assert_within(sum_dy_xhat, back.grad_weight, None, floor.grad_weight, "sum_dy_xhat")


def test_two_halves_with_agreed_statistics_equal_the_whole(kernels):
    # What two ranks do: merge statistics and sums, apply each to its own half.
    from batchnorm import BatchStats

    case = make_case((10, 5, 6, 6), torch.float64, form="act")
    want = oracle_train(case)
    halves = case.input[:3], case.input[3:]
    grads = case.grad[:3], case.grad[3:]
    stats = [kernels.batch_norm_stats(h, None) for h in halves]
    whole = BatchStats.merge_all([BatchStats(count=n, mean=m, var=v) for m, v, n in stats])
    invstd = (whole.var + case.eps).rsqrt()
    params, rest = (case.weight, case.bias), (None, None, None, *case.code)
    sums = [
        kernels.batch_norm_backward_reduce(g, h, *params, whole.mean, invstd, *rest)
        for g, h in zip(grads, halves, strict=True)
    ]
    sum_dy, sum_dy_xhat = (a + b for a, b in zip(*sums, strict=True))
    dx = torch.cat(
        [
            kernels.batch_norm_backward_apply(
                g, h, *params, whole.mean, invstd, sum_dy, sum_dy_xhat, whole.count, *rest, False
            )[0]
            for g, h in zip(grads, halves, strict=True)
        ]
    )
    assert_within(dx, want.backward.grad_input, None, floors(case).grad_input, "dx")
    assert_within(sum_dy, want.backward.grad_bias, None, floors(case).grad_bias, "sum_dy")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_stats_of_masked_batch_are_those_of_its_real_positions(kernels, layout):
    case = make_case((6, 5, 4, 4), torch.float32, layout, "masked", offset=100.0)
    mean, var, count = kernels.batch_norm_stats(case.input, case.mask)
    rows = case.input.movedim(1, -1)[case.mask].double()
    assert count.item() == len(rows)
    assert_within(mean, rows.mean(0), None, floors(case).mean, "mean")
    assert_within(var, rows.var(0, correction=0), None, floors(case).var, "var")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_apply_takes_any_statistics(kernels, layout):
    case = make_case((6, 5, 4, 4), torch.float32, layout, "residual_act")
    invstd = (case.running_var + case.eps).rsqrt()
    stats = (case.running_mean, invstd)
    rest = (case.weight, case.bias, case.residual, None, *case.code)
    y = kernels.batch_norm_apply(case.input, *stats, *rest)
    wide = case.double()
    exact = (wide.running_mean, invstd.double())
    want = reference.batch_norm_apply(
        wide.input, *exact, wide.weight, wide.bias, wide.residual, None, *case.code
    )
    assert_within(y, want, None, floors(case, training=False).output, "y")
