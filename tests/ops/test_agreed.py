"""Measure and normalise apart: values and gradients are those of the fused form."""

import pytest
import torch
from torch import Tensor

import batchnorm as bn
from batchnorm.ops import choose_lane, measure, normalise_by_agreed
from tests.activations import ACTS
from tests.cases import FORMS, Case, make_case
from tests.peer import preactivation
from tests.tolerance import assert_within, floors, off_kinks


def alone(sum_dy: Tensor, sum_dy_xhat: Tensor) -> tuple[Tensor, Tensor]:
    """What one who shares with nobody agrees on, by the way of those who share."""
    return sum_dy * 1, sum_dy_xhat * 1


def leaves(case: Case) -> list[Tensor]:
    tensors = (case.input, case.weight, case.bias, case.residual)
    return [t.detach().clone().requires_grad_() for t in tensors if t is not None]


def agreed(case: Case, agree, *given: Tensor) -> Tensor:
    it = iter(given)
    tensors = (case.input, case.weight, case.bias, case.residual)
    x, w, b, r = (None if t is None else next(it) for t in tensors)
    lane = choose_lane(x)
    mean, var, count = measure(lane, x, case.mask)
    invstd = (var + case.eps).rsqrt()
    return normalise_by_agreed(lane, mean, invstd, count, x, w, b, r, case.mask, *case.code, agree)


def fused(case: Case, *given: Tensor) -> Tensor:
    it = iter(given)
    tensors = (case.input, case.weight, case.bias, case.residual)
    x, w, b, r = (None if t is None else next(it) for t in tensors)
    slope = case.act.slope if case.act.name in ("leaky_relu", "elu") else None
    return bn.functional.batch_norm(
        x, w, b, residual=r, mask=case.mask, eps=case.eps, activation=case.act.name, slope=slope
    )[0]


def gradients(fn, case: Case) -> list[Tensor]:
    given = leaves(case)
    return [fn(*given), *torch.autograd.grad(fn(*given), given, case.grad)]


def assert_equal_to_fused(got: list[Tensor], case: Case) -> None:
    floor = floors(case)
    want = gradients(lambda *t: fused(case, *t), case)
    names = ["output", "grad_input"]
    names += ["grad_weight"] * (case.weight is not None) + ["grad_bias"] * (case.bias is not None)
    names += ["grad_residual"] * (case.residual is not None)
    for name, a, b in zip(names, got, want, strict=True):
        assert_within(a, b, None, 2 * getattr(floor, name), name)


@pytest.mark.parametrize("agree", [None, alone])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("affine", ["both", "none"])
def test_gradients_flow_through_the_agreed_statistics(form, dtype, affine, agree):
    case = make_case((9, 6, 5, 4), dtype, "channels_last", form, affine=affine, offset=3.0)
    case = off_kinks(case, preactivation(case))

    assert_equal_to_fused(gradients(lambda *t: agreed(case, agree, *t), case), case)


@pytest.mark.parametrize("agree", [None, alone])
@pytest.mark.parametrize("form", ["residual_act", "masked"])
def test_compiled_without_a_graph_break(form, agree):
    torch._dynamo.reset()
    case = make_case((6, 4, 5), torch.float64, form=form)
    compiled = torch.compile(
        lambda *t: agreed(case, agree, *t), backend="aot_eager", fullgraph=True
    )

    assert_equal_to_fused(gradients(compiled, case), case)


@pytest.mark.parametrize("agree", [None, alone])
@pytest.mark.parametrize("act", ["identity", "silu", "tanh"])
@pytest.mark.parametrize("form", ["act", "residual_act", "masked"])
def test_first_and_second_derivatives(form, act, agree):
    case = make_case((4, 3, 2), torch.float64, form=form, act=act)
    fn, given = (lambda *t: agreed(case, agree, *t)), leaves(case)
    cotangent = [torch.randn_like(case.input).requires_grad_()]

    assert torch.autograd.gradcheck(fn, given, eps=1e-6, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(fn, given, cotangent, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("act", ["identity", *sorted(set(ACTS) - {"identity"})])
def test_computed_weight_and_bias_get_exact_gradients(act):
    # Batch renorm's form: x_hat * r + d.
    case = make_case((8, 3, 4), torch.float64, form="act", act=act)
    r, d = torch.rand(3, dtype=torch.float64) + 0.5, torch.randn(3, dtype=torch.float64)

    def corrected(fn):
        return gradients(lambda x, w, b: fn(x, w * r, b + w * d), case)

    for a, b in zip(
        corrected(lambda *t: agreed(case, None, *t)),
        corrected(lambda *t: fused(case, *t)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_func_transforms_follow_the_statistics():
    case = make_case((6, 3, 4), torch.float64, form="act", act="silu")
    given = leaves(case)

    def loss(x):
        return (agreed(case, None, x, *given[1:]) * case.grad).sum()

    want = torch.autograd.grad(fused(case, *given), given[0], case.grad)[0]
    torch.testing.assert_close(torch.func.grad(loss)(given[0]), want)


def test_many_gradients_at_once():
    case = make_case((6, 3, 4), torch.float64, form="residual_act")
    given = leaves(case)
    cotangents = torch.randn(3, *case.input.shape, dtype=torch.float64)
    got = torch.autograd.grad(agreed(case, None, *given), given, cotangents, is_grads_batched=True)

    for i, g in enumerate(cotangents):
        want = torch.autograd.grad(fused(case, *given), given, g)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a[i], b)
