"""Whitened batch norm against the written-out algorithms, and its laws."""

import pytest
import torch
from torch import func

import batchnorm as bn
from tests.tolerance import STEPS, ulp
from tests.whitening import flat, iterated, matrices, mixed, moments, unflat, whitened

KINDS = [
    (bn.WhitenedBatchNorm1d, (20, 6)),
    (bn.WhitenedBatchNorm1d, (8, 6, 5)),
    (bn.WhitenedBatchNorm2d, (5, 6, 4, 3)),  # planes of 2·6: multiplied one by one
    (bn.WhitenedBatchNorm3d, (5, 6, 2, 3, 2)),
]
CLOSE = {"rtol": 1e-8, "atol": 1e-8}
METHODS = ["zca", "newton"]


def layer_of(kind=bn.WhitenedBatchNorm1d, channels=6, **options):
    layer = kind(channels, dtype=torch.float64, **options)
    if layer.affine:
        with torch.no_grad():
            for p in layer.parameters():
                p.normal_()
    return layer


def expected(layer, x, act=lambda y: y, residual=None):
    y = whitened(flat(x), layer.group_size, layer.method, layer.eps, layer.iterations)
    y = unflat(y * layer.weight + layer.bias, x)
    return act(y if residual is None else y + residual)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_output_and_gradients_are_those_of_the_written_out_algorithm(kind, shape, size, method):
    layer, x = layer_of(kind, method=method, group_size=size), mixed(*shape).requires_grad_()
    y, g = layer(x), torch.randn(shape, dtype=torch.float64)
    want = expected(layer, x)
    torch.testing.assert_close(y, want, **CLOSE)
    leaves = [x, layer.weight, layer.bias]
    got = torch.autograd.grad(y, leaves, g)
    torch.testing.assert_close(got, torch.autograd.grad(want, leaves, g), **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_residual_and_activation(method):
    layer = layer_of(method=method, activation="silu")
    x, r = mixed(20, 6).requires_grad_(), mixed(20, 6, seed=1).requires_grad_()
    y, want = layer(x, residual=r), expected(layer, x, torch.nn.functional.silu, r)
    torch.testing.assert_close(y, want, **CLOSE)
    g = torch.randn_like(x)
    got = torch.autograd.grad(y, [x, r], g)
    torch.testing.assert_close(got, torch.autograd.grad(want, [x, r], g), **CLOSE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole_samples", [True, False])
def test_masked_batch_is_the_batch_of_its_real_positions(method, whole_samples):
    layer, alone = layer_of(method=method), layer_of(method=method)
    alone.load_state_dict(layer.state_dict())
    x, mask = mixed(8, 6, 5), torch.rand(8, 5) < 0.6
    if whole_samples:
        mask = torch.arange(8) % 3 > 0
    full = mask if mask.dim() == 2 else mask[:, None].expand(8, 5)
    padded = x.masked_fill(~full[:, None], float("nan")).requires_grad_()
    real = x.movedim(1, -1)[full].requires_grad_()
    y, want = layer(padded, mask=mask), alone(real)
    torch.testing.assert_close(y.movedim(1, -1)[full], want, **CLOSE)
    assert y.movedim(1, -1)[~full].abs().max() == 0
    g = torch.randn_like(x)
    y.backward(g)
    want.backward(g.movedim(1, -1)[full])
    torch.testing.assert_close(padded.grad.movedim(1, -1)[full], real.grad, **CLOSE)
    assert padded.grad.movedim(1, -1)[~full].abs().max() == 0
    for (name, a), b in zip(layer.named_buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name, **CLOSE)
    layer.eval(), alone.eval()
    torch.testing.assert_close(layer(padded, mask=mask).movedim(1, -1)[full], alone(real), **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_groups_of_one_channel_are_batch_norm(method):
    # Newton of a single number is exact at once: the trace is the number.
    layer, plain = layer_of(method=method, group_size=1), bn.BatchNorm1d(6).double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = mixed(20, 6)
    for _ in range(2):
        torch.testing.assert_close(layer(x), plain(x), **CLOSE)
    torch.testing.assert_close(layer.eval()(x), plain.eval()(x), **CLOSE)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_output_of_a_group_is_white(size):
    layer = bn.WhitenedBatchNorm1d(6, eps=1e-12, affine=False, group_size=size).double()
    y = layer(mixed(50, 6, offset=3.0))
    mean, covariances = moments(y, size)
    torch.testing.assert_close(mean, torch.zeros(6, dtype=torch.float64), **CLOSE)
    for c in covariances:
        torch.testing.assert_close(c, torch.eye(size, dtype=torch.float64), **CLOSE)


def test_rotated_input_gives_rotated_output():
    # Σ of Rx is RΣRᵀ, whose inverse root is R Σ^(-1/2) Rᵀ: what distinguishes ZCA from PCA.
    layer, x = bn.WhitenedBatchNorm1d(6, affine=False).double(), mixed(30, 6)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    torch.testing.assert_close(layer(x @ rotation.T), layer(x) @ rotation.T, **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_order_of_samples_does_not_matter_and_shift_is_removed(method):
    layer, x = layer_of(method=method), mixed(20, 6)
    order = torch.randperm(20)
    torch.testing.assert_close(layer(x[order] + 7.0), layer(x)[order], **CLOSE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck_and_double_backward(method, masked):
    layer = layer_of(channels=4, method=method, group_size=2, activation="tanh", momentum=0.0)
    x, mask = mixed(6, 4).requires_grad_(), torch.tensor([True] * 5 + [False]) if masked else None
    w, b = (p.detach().clone().requires_grad_() for p in layer.parameters())

    def f(x, w, b):
        named = {"weight": w, "bias": b}
        return func.functional_call(layer, named, (x,), {"mask": mask})

    assert torch.autograd.gradcheck(f, (x, w, b))
    assert torch.autograd.gradgradcheck(f, (x, w, b))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_transforms_of_functions(method, training):
    layer = layer_of(method=method).train(training)
    layer(mixed(20, 6))
    x, g = mixed(3, 20, 6).transpose(0, 1), torch.randn(20, 6, dtype=torch.float64)
    loss = lambda x: (layer(x) * g).sum()
    one = x[:, 0].clone().requires_grad_()
    want = torch.autograd.grad(loss(one), one)[0]
    torch.testing.assert_close(func.grad(loss)(x[:, 0]), want, **CLOSE)
    bn.set_updates(layer, False)
    many = func.vmap(func.grad(loss), in_dims=1)(x)
    torch.testing.assert_close(many[0], want if not training else func.grad(loss)(x[:, 0]), **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_forward_derivative_is_the_directional_one_and_the_batch_counts(method):
    layer, x, v = layer_of(method=method), mixed(20, 6), mixed(20, 6, seed=1)
    _, tangent = func.jvp(layer, (x,), (v,))
    assert layer.num_batches_tracked.item() == 1
    h = 1e-6
    apart = (layer(x + h * v) - layer(x - h * v)) / (2 * h)
    torch.testing.assert_close(tangent, apart, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_eval_multiplies_by_the_running_matrix(method):
    layer, x = layer_of(method=method, group_size=3), mixed(40, 6)
    for i in range(3):
        layer(mixed(40, 6, seed=i))
    roots = matrices(list(layer.running_covariance), method, layer.eps)
    torch.testing.assert_close(layer.running_whitening, torch.stack(roots), **CLOSE)
    parts = (x - layer.running_mean).split(3, 1)
    want = torch.cat([p @ w for p, w in zip(parts, roots, strict=True)], 1)
    torch.testing.assert_close(layer.eval()(x), want * layer.weight + layer.bias, **CLOSE)


def test_iterations_bound_how_much_a_direction_grows():
    c = torch.diag(torch.tensor([1.0, 1e-12], dtype=torch.float64))
    root = iterated(c, 5)
    assert root[1, 1] <= 1.5**5
    layer = bn.WhitenedBatchNorm1d(2, eps=1e-30, method="newton", momentum=1.0).double()
    x = torch.randn(50, 2, dtype=torch.float64) * torch.tensor([1.0, 1e-6], dtype=torch.float64)
    layer(x)
    assert layer.running_whitening.abs().max() <= 1.5**5 / layer.running_var.sum().sqrt()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("training", [True, False])
def test_dtype_and_layout_of_the_input_stay(dtype, layout, training, samples):
    layer = bn.WhitenedBatchNorm2d(6, activation="relu").train(training)
    x = mixed(samples, 6, 4, 3, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    y = layer(x, residual=x)
    y.backward(torch.randn_like(y))
    assert y.dtype == x.grad.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    wide = bn.WhitenedBatchNorm2d(6, activation="relu").double().train(training)
    want = wide(x.detach().double(), residual=x.detach().double())
    condition = torch.linalg.cond(moments(flat(x.detach().double()), 6)[1][0]).item()
    wider = ulp(torch.promote_types(dtype, torch.float32))
    bound = STEPS * wider * (condition if training else 1.0) + ulp(dtype)
    torch.testing.assert_close(y.double(), want, rtol=bound, atol=bound * want.abs().max().item())
