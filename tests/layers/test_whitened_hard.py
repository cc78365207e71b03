"""Whitening where it is hard: rank-deficient, ill-conditioned, far from zero."""

import pytest
import torch

import batchnorm as bn
from tests.tolerance import ulp
from tests.whitening import mixed, moments, whitened

METHODS = ["zca", "newton"]


def step(layer, x):
    """A training step on random cotangents and an evaluation; everything that came out."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(torch.randn_like(y))
    return y.detach(), x.grad, layer.eval()(x).detach()


def cases():
    base = mixed(30, 8, dtype=torch.float32)
    constant, repeated = base.clone(), base.clone()
    constant[:, 2] = 3.14
    repeated[:, 5] = repeated[:, 1]
    return {
        "fewer samples than channels": base[:3],
        "two samples": base[:2],
        "a constant channel": constant,
        "all constant": torch.full_like(base, -7.5),
        "a channel twice": repeated,
        "far from zero": base + 1e4,
        "tiny": base * 1e-20,
        "spread over 16 decades": base * torch.logspace(-8, 8, 8),
        "large": base * 1e15,
        "zero": torch.zeros_like(base),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", cases())
def test_hard_batches_stay_finite(method, name):
    layer = bn.WhitenedBatchNorm1d(8, method=method)
    for result in step(layer, cases()[name]):
        assert result.isfinite().all()
    assert layer.running_whitening.isfinite().all()
    assert layer.num_nonfinite.sum() == 0


@pytest.mark.parametrize("method", METHODS)
def test_no_output_is_larger_than_the_batch_allows(method):
    # Whitened by its own statistics a value is at most sqrt(m): yᵀΣ⁻¹y ≤ m. Eigenvalues that
    # rounding makes negative would break it.
    x = cases()["fewer samples than channels"]
    y, _, _ = step(bn.WhitenedBatchNorm1d(8, method=method, affine=False), x)
    assert y.square().sum(1).max() <= len(x) * (1 + 100 * ulp(torch.float32))


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("method", METHODS)
def test_error_is_that_of_the_condition_not_of_the_offset(method, offset):
    x = mixed(200, 8, dtype=torch.float32, offset=offset)
    layer = bn.WhitenedBatchNorm1d(8, method=method, affine=False)
    want = whitened(x.double(), 8, method)
    condition = torch.linalg.cond(moments(x.double(), 8)[1][0]).item()
    error = (layer(x).double() - want).abs().max().item()
    # The rounding of an eigenvalue, ulp·λmax, relative to the smallest one.
    assert error <= 8 * ulp(torch.float32) * condition * want.abs().max().item()


def test_gradient_at_equal_variances_is_right_in_float32():
    # Autograd through eigh gives NaN or noise here.
    x, _ = torch.linalg.qr(torch.randn(64, 8, dtype=torch.float64))
    x = (x - x.mean(0)) * 8
    g = torch.randn(64, 8, dtype=torch.float64)
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaf = x.to(dtype).requires_grad_()
        bn.WhitenedBatchNorm1d(8, dtype=dtype, affine=False)(leaf).backward(g.to(dtype))
        grads.append(leaf.grad.double())
    bound = 100 * ulp(torch.float32)
    torch.testing.assert_close(*grads, rtol=bound, atol=bound * grads[1].abs().max().item())


def test_rank_deficient_directions_get_little_of_the_output():
    # Two equal channels: their difference has no variance, and eps keeps it from being amplified.
    x = mixed(50, 2)
    x[:, 1] = x[:, 0]
    y = bn.WhitenedBatchNorm1d(2, affine=False).double()(x)
    torch.testing.assert_close(y[:, 0], y[:, 1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y.square().sum(1).mean().item(), 1.0, rtol=1e-4, atol=1e-4)
