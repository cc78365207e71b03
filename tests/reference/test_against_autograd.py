"""The oracle judged by torch: ``F.batch_norm`` in float64, autograd, and numbers by hand."""

import pytest
import torch

from batchnorm import reference
from tests.activations import ACTS
from tests.calls import backward, evaluate, saved, train, wants_grad_residual
from tests.cases import FORMS, make_case
from tests.peer import peer

SHAPES = [(7, 3), (4, 1, 5), (3, 4, 2, 6), (2, 3, 2, 3, 4)]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("keep_output", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reference_equals_torch_in_float64(shape, act, form, training, keep_output):
    case = make_case(shape, torch.float64, form=form, act=act)
    want = peer(case, training=training)
    if training:
        out = train(reference, case)
        y, mean, invstd = out.output, out.mean, out.invstd
        torch.testing.assert_close(mean, want.mean, **CLOSE)
        torch.testing.assert_close(out.var, want.var, **CLOSE)
        torch.testing.assert_close(invstd, (want.var + case.eps).rsqrt(), **CLOSE)
        assert out.count.item() == case.full_mask.sum()
    else:
        y, mean = evaluate(reference, case), case.running_mean
        invstd = (case.running_var + case.eps).rsqrt()
    torch.testing.assert_close(y, want.output, **CLOSE)
    got = backward(reference, case, mean, invstd, y if keep_output else None, training=training)
    torch.testing.assert_close(got.grad_input, want.grad_input, **CLOSE)
    torch.testing.assert_close(got.grad_weight, want.grad_weight, **CLOSE)
    torch.testing.assert_close(got.grad_bias, want.grad_bias, **CLOSE)
    if wants_grad_residual(case):
        torch.testing.assert_close(got.grad_residual, want.grad_residual, **CLOSE)


def test_paper_by_hand():
    # Two values per channel: mean 2 and 10, biased variance 1 and 16 (Ioffe & Szegedy, Alg. 1).
    x = torch.tensor([[1.0, 6.0], [3.0, 14.0]], dtype=torch.float64)
    weight, bias = torch.tensor([2.0, 3.0]).double(), torch.tensor([5.0, 7.0]).double()
    y, mean, var, invstd, count = reference.batch_norm_train(
        x, weight, bias, None, None, 0.0, 0, 0.0
    )
    assert mean.tolist() == [2, 10]
    assert var.tolist() == [1, 16]
    assert invstd.tolist() == [1, 0.25]
    assert count.item() == 2
    assert y.tolist() == [[3, 4], [7, 10]]


def test_gradient_is_orthogonal_to_ones_and_to_x_hat():
    case = make_case((8, 5, 3, 3), torch.float64)
    out = train(reference, case)
    dx = backward(reference, case, out.mean, out.invstd).grad_input
    x_hat = (case.input - out.mean.view(1, -1, 1, 1)) * out.invstd.view(1, -1, 1, 1)
    assert dx.abs().max() > 0.01
    assert dx.sum((0, 2, 3)).abs().max() < 1e-12
    # Orthogonal to x_hat up to eps: sum(dx·x_hat) = eps·invstd²·(…).
    assert (dx * x_hat).sum((0, 2, 3)).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_statistics_are_float32_for_narrow_input(dtype):
    out = train(reference, make_case((6, 3), dtype))
    assert out.output.dtype == dtype
    assert out.mean.dtype == out.var.dtype == out.invstd.dtype == torch.float32


def test_reference_changes_nothing_it_is_given():
    case = make_case((6, 3), torch.float64, form="residual_act")
    before = case.double()
    out = train(reference, case)
    backward(reference, case, out.mean, out.invstd, out.output)
    for name in ("input", "weight", "bias", "residual", "grad"):
        assert torch.equal(getattr(case, name), getattr(before, name)), name


def test_what_backward_reads_is_enough():
    # With the output kept, the residual is not needed: that is what makes the form cheap.
    case = make_case((6, 3), torch.float64, form="residual_act", act="relu")
    out = train(reference, case)
    assert saved(case, out.output) == (None, out.output)
    a = backward(reference, case, out.mean, out.invstd)
    b = backward(reference, case, out.mean, out.invstd, out.output)
    assert torch.equal(a.grad_input, b.grad_input)
