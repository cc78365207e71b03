"""``batch_norm_eval`` and its backward against the float64 oracle."""

import pytest
import torch

from tests.activations import ACTS
from tests.calls import backward, evaluate, oracle_eval, same_layout, wants_grad_residual
from tests.cases import DTYPES, GRID, Case, make_case
from tests.peer import peer, preactivation
from tests.tolerance import assert_within, floors, off_kinks

SHAPES = [(33, 24), (1, 1), (5, 3, 31), (9, 64, 7, 7), (1, 130, 3, 5), (2, 7, 5, 4, 3)]
LARGE = [(700, 130), (1, 3, 224, 224), (16, 64, 28, 28), (8, 128, 400)]


def check_eval(kernels, case: Case) -> None:
    case = off_kinks(case, preactivation(case, training=False), training=False)
    floor, torchs = floors(case, training=False), peer(case, training=False)
    output, want = oracle_eval(case)
    got = evaluate(kernels, case)
    invstd = (case.running_var + case.eps).rsqrt()
    grads = backward(kernels, case, case.running_mean, invstd, got, training=False)

    assert got.dtype == case.input.dtype
    assert same_layout(got, case.input)
    assert same_layout(grads.grad_input, case.input)
    assert_within(got, output, torchs.output, floor.output, "output")
    assert_within(grads.grad_input, want.grad_input, torchs.grad_input, floor.grad_input, "dx")
    assert_within(
        grads.grad_weight, want.grad_weight, torchs.grad_weight, floor.grad_weight, "dweight"
    )
    assert_within(grads.grad_bias, want.grad_bias, torchs.grad_bias, floor.grad_bias, "dbias")
    if wants_grad_residual(case):
        dr = grads.grad_residual
        assert_within(dr, want.grad_residual, torchs.grad_residual, floor.grad_residual, "dr")


@pytest.mark.parametrize(("dtype", "layout", "form"), GRID)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eval_matches_oracle(kernels, shape, dtype, layout, form):
    # attorch's eval-mode backward reads memory it never wrote; ours runs on NaN-filled memory.
    check_eval(kernels, make_case(shape, dtype, layout, form))


@pytest.mark.parametrize("form", ["plain", "residual_act"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_eval_matches_oracle_on_large_shapes(kernels, shape, layout, form):
    check_eval(kernels, make_case(shape, torch.float32, layout, form))


@pytest.mark.parametrize("form", ["act", "residual_act"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ACTS)
def test_eval_matches_oracle_for_every_activation(kernels, act, dtype, form):
    check_eval(kernels, make_case((3, 10, 7, 5), dtype, "contiguous", form, act))


@pytest.mark.parametrize("affine", ["none", "weight", "bias"])
@pytest.mark.parametrize("form", ["plain", "residual_act", "masked"])
def test_eval_matches_oracle_without_parameters(kernels, form, affine):
    check_eval(kernels, make_case((4, 7, 6, 6), form=form, affine=affine))


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3, 3)], ids=str)
def test_eval_of_empty_batch_is_empty(kernels, shape):
    case = make_case(shape)
    assert evaluate(kernels, case).shape == shape
    invstd = (case.running_var + case.eps).rsqrt()
    grads = backward(kernels, case, case.running_mean, invstd, training=False)
    assert torch.equal(grads.grad_weight, torch.zeros(4))


def test_eval_without_variance_divides_by_eps_only(kernels):
    case = make_case((3, 2), affine="none")
    case.running_var.zero_()
    want = (case.input - case.running_mean) * case.eps**-0.5
    floor = floors(case, training=False).output
    assert_within(evaluate(kernels, case), want.double(), None, floor, "y")
