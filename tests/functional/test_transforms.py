"""vmap, grad, jvp, jacobians and Hessian products through the stateless function."""

import pytest
import torch
from torch import func

import batchnorm as bn
from batchnorm import BatchStats
from tests.activations import ACTS

F64 = torch.float64
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def f(x, w=None, b=None, **options):
    return bn.functional.batch_norm(x, w, b, **options)[0]


def peer(x, w=None, b=None):
    return torch.nn.functional.batch_norm(x, None, None, w, b, True, 0.0, 1e-5)


def parameters(channels=3):
    return torch.rand(channels, dtype=F64) + 0.5, torch.randn(channels, dtype=F64)


@pytest.mark.parametrize("act", ["identity", "relu", "gelu"])
def test_vmap_over_models_equals_a_loop(act):
    # Per-sample or per-model batches: torch's own layer refuses vmap (pytorch#85533).
    x = torch.randn(5, 4, 3, 2, dtype=F64)
    w, b = torch.randn(5, 3, dtype=F64), torch.randn(5, 3, dtype=F64)
    got = func.vmap(lambda *a: f(*a, activation=act))(x, w, b)
    want = torch.stack([f(*a, activation=act) for a in zip(x, w, b, strict=True)])
    torch.testing.assert_close(got, want, **CLOSE)


def test_vmap_returns_the_statistics_of_each_batch():
    x = torch.randn(5, 4, 3, dtype=F64)
    _, stats = func.vmap(lambda x: bn.functional.batch_norm(x))(x)
    torch.testing.assert_close(stats.mean, x.mean(1), **CLOSE)
    torch.testing.assert_close(stats.var, x.var(1, correction=0), **CLOSE)


def test_vmap_over_another_dimension_and_with_given_statistics():
    x, (w, b) = torch.randn(4, 3, 6, dtype=F64), parameters()
    stats = BatchStats(count=torch.tensor(4), mean=torch.randn(3, dtype=F64), var=w)
    got = func.vmap(lambda x: f(x, w, b, stats=stats), in_dims=2, out_dims=2)(x)
    want = torch.stack([f(x[..., i], w, b, stats=stats) for i in range(6)], 2)
    torch.testing.assert_close(got, want, **CLOSE)


def test_grad_equals_autograd():
    x, (w, b), g = torch.randn(6, 3, dtype=F64), parameters(), torch.randn(6, 3, dtype=F64)
    got = func.grad(lambda *a: (f(*a, activation="silu") * g).sum(), argnums=(0, 1, 2))(x, w, b)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    want = torch.autograd.grad(f(*leaves, activation="silu"), leaves, g)
    for a, e in zip(got, want, strict=True):
        torch.testing.assert_close(a, e, **CLOSE)


def test_grad_under_vmap_gives_gradients_per_model():
    x, g = torch.randn(5, 6, 3, dtype=F64), torch.randn(6, 3, dtype=F64)
    got = func.vmap(func.grad(lambda x: (f(x) * g).sum()))(x)
    want = torch.stack([func.grad(lambda x: (peer(x) * g).sum())(xi) for xi in x])
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("act", ["identity", "gelu", "leaky_relu"])
def test_jvp_is_the_directional_derivative(act):
    # A Python-registered backward alone drops the tangent silently.
    x, v = torch.randn(2, 6, 3, dtype=F64)
    y, tangent = func.jvp(lambda x: f(x, activation=act), (x,), (v,))
    h = 1e-6
    want = (f(x + h * v, activation=act) - f(x - h * v, activation=act)) / (2 * h)
    torch.testing.assert_close(tangent, want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y, f(x, activation=act), **CLOSE)


def test_forward_mode_dual_numbers_keep_their_tangent():
    x, v = torch.randn(2, 6, 3, dtype=F64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, v)
        tangent = torch.autograd.forward_ad.unpack_dual(f(dual, activation="silu")).tangent
    want = func.jvp(lambda x: torch.nn.functional.silu(peer(x)), (x,), (v,))[1]
    torch.testing.assert_close(tangent, want, **CLOSE)


def test_jacobians_forward_and_reverse_agree_with_torch():
    x, (w, b) = torch.randn(4, 3, dtype=F64), parameters()
    want = torch.autograd.functional.jacobian(lambda x: peer(x, w, b), x)
    torch.testing.assert_close(func.jacrev(f)(x, w, b), want, **CLOSE)
    torch.testing.assert_close(func.jacfwd(f)(x, w, b), want, **CLOSE)


def test_hessian_vector_product_agrees_with_torch():
    x, v, g = torch.randn(3, 5, 3, dtype=F64)

    def loss(fn):
        return lambda x: (fn(x).sigmoid() * g).sum()

    got = func.jvp(func.grad(loss(f)), (x,), (v,))[1]
    want = torch.autograd.functional.hvp(loss(peer), x, v)[1]
    torch.testing.assert_close(got, want, **CLOSE)
    assert want.abs().max() > 1e-3


def test_per_sample_gradient_with_given_statistics():
    x, (w, b) = torch.randn(6, 3, 4, dtype=F64), parameters()
    stats = BatchStats(count=torch.tensor(4), mean=torch.zeros(3, dtype=F64), var=w)

    def loss(w, sample):
        return f(sample.unsqueeze(0), w, b, stats=stats, activation="tanh").square().sum()

    got = func.vmap(func.grad(loss), in_dims=(None, 0))(w, x)
    want = torch.stack([func.grad(loss)(w, s) for s in x])
    torch.testing.assert_close(got, want, **CLOSE)


def test_masked_and_residual_form_under_vmap():
    x, r = torch.randn(2, 5, 4, 3, 2, dtype=F64)
    mask = torch.rand(5, 4, 2) < 0.7

    def call(x, r, m):
        return f(x, residual=r, mask=m, activation="relu")

    got = func.vmap(call)(x, r, mask)
    want = torch.stack([call(*a) for a in zip(x, r, mask, strict=True)])
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("act", ACTS)
def test_every_activation_under_transforms(act):
    x, v = torch.randn(2, 5, 3, dtype=F64)
    g = func.grad(lambda x: (f(x, activation=act) * v).sum())(x)
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(f(leaf, activation=act), leaf, v)
    torch.testing.assert_close(g, want, **CLOSE)


def test_layer_by_functional_call_updates_the_given_buffers():
    layer = bn.BatchNorm1d(3).double()
    state = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    state = {k: v.detach().clone() for k, v in state.items()}
    x = torch.randn(6, 3, dtype=F64)
    y = func.functional_call(layer, state, (x,))
    torch.testing.assert_close(y, peer(x), **CLOSE)
    assert layer.num_batches_tracked.item() == 0
    assert torch.equal(layer.running_mean, torch.zeros(3, dtype=F64))
    torch.testing.assert_close(state["running_mean"], 0.1 * x.mean(0), **CLOSE)


def test_layer_in_eval_mode_under_vmap_and_grad():
    layer = bn.BatchNorm1d(3, activation="relu").double().eval()
    x = torch.randn(5, 4, 3, dtype=F64)
    torch.testing.assert_close(func.vmap(layer)(x), torch.stack([layer(s) for s in x]), **CLOSE)
    g = func.grad(lambda x: (layer(x) * x).sum())(x[0])
    assert g.shape == (4, 3)


def test_layer_in_training_under_grad_with_its_buffers_as_arguments():
    layer = bn.BatchNorm1d(3).double()
    x, g = torch.randn(2, 6, 3, dtype=F64)
    buffers = {k: v.clone() for k, v in layer.named_buffers()}

    def loss(x, buffers):
        return (func.functional_call(layer, buffers, (x,)) * g).sum(), buffers

    got, new = func.grad(loss, has_aux=True)(x, buffers)
    torch.testing.assert_close(got, func.grad(lambda x: (peer(x) * g).sum())(x), **CLOSE)
    torch.testing.assert_close(new["running_mean"], 0.1 * x.mean(0), **CLOSE)
    assert new["num_batches_tracked"].item() == 1
    assert layer.num_batches_tracked.item() == 0


def test_layer_in_training_under_grad_and_vmap_without_updates():
    # Captured buffers cannot be written under a transform, by torch's rule: skip the commit.
    layer = bn.BatchNorm1d(3).double()
    x, g = torch.randn(2, 6, 3, dtype=F64)
    with bn.skip_updates(layer):
        got = func.grad(lambda x: (layer(x) * g).sum())(x)
        many = func.vmap(layer)(x.expand(4, 6, 3))
    torch.testing.assert_close(got, func.grad(lambda x: (peer(x) * g).sum())(x), **CLOSE)
    torch.testing.assert_close(many[2], peer(x), **CLOSE)
    assert layer.num_batches_tracked.item() == 0


def test_ensemble_by_stack_module_state_and_vmap():
    models = [bn.BatchNorm1d(3).double().eval() for _ in range(4)]
    for i, m in enumerate(models):
        m.running_mean.fill_(float(i))
    params, buffers = func.stack_module_state(models)
    x = torch.randn(6, 3, dtype=F64)
    run = func.vmap(lambda p, b: func.functional_call(models[0], (p, b), (x,)))
    torch.testing.assert_close(run(params, buffers), torch.stack([m(x) for m in models]), **CLOSE)
