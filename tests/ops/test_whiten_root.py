"""Inverse roots of covariances and their derivatives."""

import pytest
import torch
from torch import func

from batchnorm.ops._whiten_root import newton_root, zca_root
from tests.whitening import denman_beavers, iterated

F64 = torch.float64
EPS = 1e-3
ROOTS = {"zca": lambda c: zca_root(c, EPS), "newton": lambda c: newton_root(c, EPS, 5)}


def spd(*values: float) -> torch.Tensor:
    """One covariance with these eigenvalues, in a random basis."""
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=F64))
    return (basis * torch.tensor(values, dtype=F64)) @ basis.T


def covariances() -> torch.Tensor:
    return torch.stack([spd(3.0, 1.0, 0.1), spd(5.0, 4.0, 2e-3)])


EQUAL = torch.eye(3, dtype=F64).expand(2, 3, 3)


def test_zca_is_the_inverse_root():
    c = covariances()
    root, eye = zca_root(c, EPS), torch.eye(3, dtype=F64)
    torch.testing.assert_close(root @ (c + EPS * eye) @ root, eye.expand(2, 3, 3))
    assert torch.equal(root, root.mT) or (root - root.mT).abs().max() < 1e-12


def test_newton_is_the_papers_iteration():
    c = covariances()
    want = torch.stack([iterated(m + EPS * torch.eye(3, dtype=F64), 5) for m in c])
    torch.testing.assert_close(newton_root(c, EPS, 5), want, rtol=1e-12, atol=1e-12)


def test_newton_comes_to_the_inverse_root_with_iterations_and_stays():
    # In the paper's form of the products rounding grows, and 30 iterations give NaN.
    c = covariances()
    far = [(newton_root(c, EPS, k) - zca_root(c, EPS)).abs().max().item() for k in (3, 8, 99)]
    assert far[0] > far[1] > far[2]
    assert far[2] < 1e-9


@pytest.mark.parametrize("method", ROOTS)
@pytest.mark.parametrize("kind", ["apart", "equal", "nearly equal"])
def test_gradients_are_those_of_finite_differences(method, kind):
    # Through torch's eigh the gradient at equal eigenvalues is NaN, at nearly equal ones noise.
    near = EQUAL + 1e-9 * torch.diag(torch.tensor([0.0, 1.0, 2.0], dtype=F64))
    c = {"apart": covariances(), "equal": EQUAL, "nearly equal": near}[kind]
    c = c.clone().requires_grad_()
    assert torch.autograd.gradcheck(ROOTS[method], (c,))
    assert torch.autograd.gradgradcheck(ROOTS[method], (c,))


def test_gradient_equals_autograd_of_another_algorithm():
    c, g = covariances()[0].requires_grad_(), torch.randn(3, 3, dtype=F64)
    eye = torch.eye(3, dtype=F64)
    got = torch.autograd.grad(zca_root(c[None], EPS)[0], c, g)[0]
    want = torch.autograd.grad(denman_beavers((c + c.T) / 2 + EPS * eye), c, g)[0]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_forward_derivative_is_the_directional_one():
    c, direction = covariances(), torch.stack([spd(1.0, -1.0, 2.0)] * 2)
    _, tangent = func.jvp(ROOTS["zca"], (c,), (direction,))
    h = 1e-6
    apart = ROOTS["zca"](c + h * direction) - ROOTS["zca"](c - h * direction)
    torch.testing.assert_close(tangent, apart / (2 * h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ROOTS)
def test_second_derivatives_by_functions_equal_autograds(method):
    c, g = covariances(), torch.randn(2, 3, 3, dtype=F64)
    loss = lambda c: (ROOTS[method](c) ** 3 * g).sum()
    got = func.jacrev(func.jacrev(loss))(c)
    want = torch.autograd.functional.hessian(loss, c)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(func.hessian(loss)(c), want)


def test_third_derivative_is_refused_also_when_asked_for_inputs_alone():
    c = covariances().requires_grad_()
    first = torch.autograd.grad(ROOTS["zca"](c).pow(3).sum(), c, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), c, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(second.square().sum(), c)


@pytest.mark.parametrize("method", ROOTS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_group_that_is_not_finite_is_nan_and_leaves_the_others_alone(method, bad):
    c = covariances()
    want = ROOTS[method](c)
    c[0, 0, 0] = bad
    got = ROOTS[method](c)
    assert got[0].isnan().all()
    assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("method", ROOTS)
def test_nothing_at_all_stays_finite(method):
    c = torch.zeros(1, 4, 4, requires_grad=True)
    root = ROOTS[method](c)
    root.backward(torch.randn(1, 4, 4))
    assert root.isfinite().all()
    assert c.grad.isfinite().all()
