"""First and second derivatives of the public function in float64."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import batchnorm as bn
from batchnorm import BatchStats
from tests.activations import ACTS
from tests.cases import FORMS, Case, make_case

SMOOTH = [name for name, act in ACTS.items() if not act.kinks]


def call(case: Case, *, training: bool):
    """The function of the differentiable tensors of a case, and these."""
    tensors = [case.input, case.weight, case.bias, case.residual]
    given = [t.detach().clone().requires_grad_() for t in tensors if t is not None]
    stats = None
    if not training:
        count = torch.tensor(9)
        stats = BatchStats(count=count, mean=case.running_mean, var=case.running_var)

    def fn(*args):
        it = iter(args)
        x, w, b, r = (None if t is None else next(it) for t in tensors)
        options = {"eps": case.eps, "activation": case.act.name, "stats": stats}
        if case.act.name in ("leaky_relu", "elu"):
            options["slope"] = case.act.slope
        return bn.functional.batch_norm(x, w, b, residual=r, mask=case.mask, **options)[0]

    return fn, given


def away_from_kinks(case: Case) -> Case:
    """A seed whose preactivations stay clear of the kinks, so that differences are smooth."""
    from tests.peer import preactivation

    for seed in range(200):
        other = make_case(
            (4, 3, 2), torch.float64, form=case_form(case), act=case.act.name, seed=seed
        )
        pre = [preactivation(other, training=t) for t in (True, False)]
        if all((p - k).abs()[p != 0].min() > 2e-3 for p in pre for k in case.act.kinks):
            return other
    raise AssertionError("no seed keeps clear of the kinks")


def case_form(case: Case) -> str:
    if case.mask is not None:
        return "masked"
    return "residual_act" if case.residual is not None else "act"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["act", "residual_act", "masked"])
@pytest.mark.parametrize("act", ACTS)
def test_first_derivative(act, form, training):
    case = away_from_kinks(make_case((4, 3, 2), torch.float64, form=form, act=act))
    fn, tensors = call(case, training=training)
    assert gradcheck(fn, tensors, eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["act", "residual_act", "masked"])
@pytest.mark.parametrize("act", ACTS)
def test_second_derivative(act, form, training):
    # A C++ autograd function gives a silently wrong double backward; ours is differentiable.
    case = away_from_kinks(make_case((4, 3, 2), torch.float64, form=form, act=act))
    fn, tensors = call(case, training=training)
    torch.manual_seed(0)
    cotangent = [torch.randn_like(case.input).requires_grad_()]
    assert gradgradcheck(fn, tensors, cotangent, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("affine", ["none", "weight", "bias"])
def test_derivatives_without_parameters(affine, form, training):
    case = make_case((4, 3, 2), torch.float64, form=form, affine=affine, seed=3)
    fn, tensors = call(case, training=training)
    assert gradcheck(fn, tensors)
    assert gradgradcheck(fn, tensors, [torch.randn_like(case.input).requires_grad_()], atol=1e-4)


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "transposed"])
@pytest.mark.parametrize("training", [True, False])
def test_derivatives_in_other_layouts(layout, training):
    case = make_case((3, 2, 2, 3), torch.float64, layout, "residual_act", act="silu")
    fn, tensors = call(case, training=training)
    assert gradcheck(fn, tensors)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("only", range(4))
def test_gradient_of_one_input_at_a_time(only, training):
    case = make_case((4, 3, 2), torch.float64, form="residual_act", act="silu")
    fn, tensors = call(case, training=training)
    want = torch.autograd.grad(fn(*tensors), tensors, case.grad)[only]
    alone = [t.detach().requires_grad_(i == only) for i, t in enumerate(tensors)]
    (got,) = torch.autograd.grad(fn(*alone), [alone[only]], case.grad)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_gradient_penalty_changes_the_gradient():
    # Second-order terms reach the parameters (WGAN-GP): a detached backward would leave none.
    case = make_case((5, 3), torch.float64, form="act", act="silu")
    fn, tensors = call(case, training=True)
    (dx,) = torch.autograd.grad(fn(*tensors), tensors[:1], case.grad, create_graph=True)
    grads = torch.autograd.grad(dx.square().sum(), tensors[:2])
    assert all(g.abs().max() > 1e-3 for g in grads)


def test_unused_output_gives_no_gradient():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y, stats = bn.functional.batch_norm(x)
    assert y.requires_grad
    assert not stats.mean.requires_grad
    assert not stats.var.requires_grad
    (g,) = torch.autograd.grad(y[:0].sum(), x)
    assert torch.equal(g, torch.zeros_like(x))


def test_expanded_cotangent_of_sum_is_zero_gradient():
    # y.sum() hands an expanded gradient of stride 0 to the backward.
    x = torch.randn(6, 3, 4, 4, requires_grad=True)
    bn.functional.batch_norm(x)[0].sum().backward()
    assert x.grad.abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_parameter_gradients_have_the_dtype_of_the_parameters(dtype):
    x = torch.randn(6, 3, dtype=dtype, requires_grad=True)
    for param in (dtype, torch.float32):
        w, b = (torch.ones(3, dtype=param, requires_grad=True) for _ in range(2))
        y, _ = bn.functional.batch_norm(x, w, b)
        y.backward(torch.randn_like(y))
        assert w.grad.dtype == b.grad.dtype == param
        assert x.grad.dtype == dtype


def test_backward_twice_with_retained_graph_is_the_same():
    x = torch.randn(6, 3, requires_grad=True)
    y, _ = bn.functional.batch_norm(x, activation="gelu")
    g = torch.randn_like(y)
    (a,) = torch.autograd.grad(y, x, g, retain_graph=True)
    (b,) = torch.autograd.grad(y, x, g)
    assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x, g)


def test_residual_that_is_the_input_gets_both_gradients():
    g = torch.randn(6, 3, dtype=torch.float64)
    grads = []
    for alias in (True, False):
        x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x.requires_grad_()
        r = x if alias else x * 1.0
        y, _ = bn.functional.batch_norm(x, residual=r, activation="relu")
        y.backward(g)
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def test_gradient_of_an_identity_residual_is_not_shared_memory():
    # The incoming gradient may be handed on, but nobody may see another's accumulation.
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    r = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    g = torch.randn(6, 3, dtype=torch.float64)
    before = g.clone()
    for _ in range(2):
        y, _ = bn.functional.batch_norm(x, residual=r)
        y.backward(g)
    assert torch.equal(g, before)
    assert torch.equal(r.grad, 2 * g)


def test_given_statistics_receive_gradients():
    mean = torch.randn(3, dtype=torch.float64)
    var = torch.rand(3, dtype=torch.float64) + 0.5
    x = torch.randn(6, 3, dtype=torch.float64)

    def fn(x, mean, var):
        stats = BatchStats(count=torch.tensor(6), mean=mean, var=var)
        return bn.functional.batch_norm(x, stats=stats, activation="tanh")[0]

    assert gradcheck(fn, [t.requires_grad_() for t in (x, mean, var)])


def test_channels_last_cotangent_and_contiguous_input():
    case = make_case((4, 3, 5, 6), torch.float64, form="residual_act", act="relu")
    fn, tensors = call(case, training=True)
    want = torch.autograd.grad(fn(*tensors), tensors, case.grad)
    other = case.grad.contiguous(memory_format=torch.channels_last)
    got = torch.autograd.grad(fn(*tensors), tensors, other)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
