"""Batch norm by domain against one plain layer per domain, and what only domains have."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
D, C = 3, 4
KINDS = [
    (bn.DomainBatchNorm1d, nn.BatchNorm1d, (C,)),
    (bn.DomainBatchNorm1d, nn.BatchNorm1d, (C, 5)),
    (bn.DomainBatchNorm2d, nn.BatchNorm2d, (C, 3, 2)),
    (bn.DomainBatchNorm3d, nn.BatchNorm3d, (C, 2, 1, 3)),
]


def layer_of(kind=bn.DomainBatchNorm1d, **options):
    layer = kind(C, num_domains=D, **options).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    return layer


def plains(layer, kind=nn.BatchNorm1d):
    """One torch layer for each domain, with the same parameters."""
    several = [kind(C, momentum=layer.momentum).double() for _ in range(layer.num_domains)]
    with torch.no_grad():
        for d, plain in enumerate(several):
            plain.weight.copy_(layer.weight if layer.shared_affine else layer.weight[d])
            plain.bias.copy_(layer.bias if layer.shared_affine else layer.bias[d])
    return several


def apart(several, x, labels):
    y = torch.zeros_like(x)
    for d in labels.unique().tolist():
        y = y.index_put((labels == d,), several[d](x[labels == d]))
    return y


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "torchs", "rest"), KINDS, ids=str)
def test_equals_one_layer_per_domain(kind, torchs, rest, shared, momentum):
    layer = layer_of(kind, shared_affine=shared, momentum=momentum)
    several = plains(layer, torchs)
    # Domain 2 is absent from the second batch.
    for labels in ([2, 0, 1, 0, 2, 1, 1, 0], [1, 0, 1, 0, 0, 1, 1, 0], [2, 2, 1, 0, 2, 1, 1, 0]):
        labels = torch.tensor(labels)
        x = (torch.randn(8, *rest, dtype=F64) * 2 + 5).requires_grad_()
        g = torch.randn(8, *rest, dtype=F64)
        y, want = layer(x, labels), apart(several, x, labels)
        torch.testing.assert_close(y, want, **CLOSE)
        got = torch.autograd.grad(y, [x, layer.weight, layer.bias], g)
        dx, *grads = torch.autograd.grad(
            want, [x, *(p for s in several for p in (s.weight, s.bias))], g, materialize_grads=True
        )
        torch.testing.assert_close(got[0], dx, **CLOSE)
        for mine, per_domain in zip(got[1:], (grads[::2], grads[1::2]), strict=True):
            stacked = torch.stack(per_domain)
            torch.testing.assert_close(mine, stacked.sum(0) if shared else stacked, **CLOSE)
    for d, plain in enumerate(several):
        torch.testing.assert_close(layer.running_mean[d], plain.running_mean, **CLOSE)
        torch.testing.assert_close(layer.running_var[d], plain.running_var, **CLOSE)
    assert layer.num_batches_tracked.tolist() == [3, 3, 2]
    x, labels = torch.randn(8, *rest, dtype=F64), torch.randint(D, (8,))
    for one in (layer, *several):
        one.eval()
    torch.testing.assert_close(layer(x, labels), apart(several, x, labels), **CLOSE)


def test_first_label_is_not_that_of_the_batch():
    # The published DSBN takes domain_label[0] for everything.
    layer = bn.DomainBatchNorm1d(1, num_domains=2, affine=False)
    x = torch.cat([torch.randn(50, 1), torch.randn(50, 1) + 100])
    labels = torch.arange(100) // 50
    y = layer(x, labels)
    assert y[:50].mean().abs() < 1e-5
    assert y[50:].mean().abs() < 1e-4
    assert layer.running_mean.flatten()[1] > 9


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_one_label_for_the_batch_is_the_plain_layer_bit_for_bit(training, shared):
    layer, plain = layer_of(shared_affine=shared), bn.BatchNorm1d(C).double()
    x = torch.randn(6, C, 5, dtype=F64)
    layer(x, torch.tensor([0, 1, 2, 0, 1, 2]))
    with torch.no_grad():
        for name, value in plain.state_dict().items():
            own = getattr(layer, name)
            value.copy_(own if own.shape == value.shape else own[1])
    y = layer.train(training)(x, 1)
    assert torch.equal(y, plain.train(training)(x))
    assert torch.equal(layer.running_var[1], plain.running_var)
    assert layer.num_batches_tracked.tolist() == [1, 1 + training, 1]


@pytest.mark.parametrize("momentum", [1.0, None])
def test_accumulate_merges_each_domain_by_itself(momentum):
    layer = layer_of(momentum=momentum)
    xs = torch.randn(3, 8, C, 5, dtype=F64) + torch.arange(3).view(3, 1, 1, 1)
    labels = torch.tensor([[0, 0, 0, 1, 1, 0, 0, 0], [1] * 8, [0] * 7 + [1]])
    with bn.accumulate(layer):
        for x, label in zip(xs, labels, strict=True):
            layer(x, label)
        assert not layer.num_batches_tracked.any()
    for d in (0, 1):
        rows = xs.movedim(2, -1)[labels == d].flatten(0, 1)
        torch.testing.assert_close(layer.running_mean[d], rows.mean(0), **CLOSE)
        torch.testing.assert_close(layer.running_var[d], rows.var(0), **CLOSE)
    assert layer.num_batches_tracked.tolist() == [1, 1, 0]
    assert torch.equal(layer.running_var[2], torch.ones(C, dtype=F64))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_not_finite_domain_is_kept_out_and_counted(momentum):
    layer, clean = (layer_of(momentum=momentum) for _ in range(2))
    labels = torch.tensor([0, 1] * 4)
    for i in range(4):
        x = torch.randn(8, C, dtype=F64)
        clean(x, labels)
        if i == 1:
            x[0, 2] = float("nan")
            y = layer(x, labels)
            assert y[1::2].isfinite().all()
        else:
            layer(x, labels)
    assert layer.num_nonfinite.sum() == layer.num_nonfinite[0, 2] == 1
    assert layer.num_batches_tracked.tolist() == [4, 4, 0]
    assert layer.running_mean.isfinite().all()
    same = torch.ones(D, C, dtype=torch.bool)
    same[0, 2] = False
    torch.testing.assert_close(layer.running_var[same], clean.running_var[same], **CLOSE)
    assert layer.running_var[0, 2] != clean.running_var[0, 2]


def trained(unseen="error", **options):
    """Domains 0 and 1 at -5 and 5 with variances 1 and 4; domain 2 has never been seen."""
    layer = layer_of(momentum=None, unseen=unseen, **options)
    for _ in range(10):
        x = torch.randn(400, C, dtype=F64)
        layer(torch.cat([x[:200] - 5, 2 * x[200:] + 5]), torch.arange(400) // 200)
    return layer.eval()


@pytest.mark.parametrize("labels", [2, -1, [0, 2, 1, 0], [0, -1, 1, 2]], ids=str)
def test_unseen_domain_is_refused_by_default(labels):
    layer = trained()
    labels = torch.tensor(labels) if isinstance(labels, list) else labels
    with pytest.raises(RuntimeError, match=r"must have been trained.*-?\d.*unseen='nearest'"):
        layer(torch.randn(4, C, dtype=F64), labels)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("lane", ["eager", "compiled"])
@pytest.mark.parametrize("label", [2, -1])
def test_nearest_takes_the_domain_that_fits(label, lane, shared):
    torch._dynamo.reset()
    layer = trained("nearest", shared_affine=shared)
    run = layer if lane == "eager" else torch.compile(layer, backend="aot_eager", fullgraph=True)
    noise = torch.randn(50, C, dtype=F64)
    # At 0 the first numbers of domain 2, mean 0 and variance 1, would fit best; they are no data.
    for centre, domain in ((-4.0, 0), (4.0, 1), (0.0, 1)):
        x = noise + centre
        torch.testing.assert_close(run(x, torch.full((50,), label)), layer(x, domain), **CLOSE)
    # Known neighbours keep their own statistics.
    labels = torch.tensor([label, 0] * 25)
    y = layer(noise + 4, labels)
    torch.testing.assert_close(y[1::2], layer(noise + 4, 0)[1::2], **CLOSE)
    torch.testing.assert_close(y[::2], layer(noise + 4, 1)[::2], **CLOSE)
    torch._dynamo.reset()


def test_nearest_looks_at_the_variance_too():
    layer = bn.DomainBatchNorm1d(1, num_domains=2, unseen="nearest", affine=False, momentum=1.0)
    x = torch.randn(1000, 1)
    layer(torch.cat([x, x * 10]), torch.arange(2000) // 1000)
    layer.eval()
    for scale, domain in ((0.8, 0), (12.0, 1)):
        torch.testing.assert_close(layer(x * scale, -1), layer(x * scale, domain))


@pytest.mark.parametrize("shared", [True, False])
def test_pooled_is_the_population_of_all_domains(shared):
    layer = trained("pooled", shared_affine=shared)
    mean, var = layer.running_mean[:2], layer.running_var[:2]
    want_mean = mean.mean(0)
    want_var = var.mean(0) + mean.var(0, correction=0)
    assert (want_var > 20).all()  # 2.5 within, 25 between
    weight = layer.weight if shared else layer.weight[:2].mean(0)
    bias = layer.bias if shared else layer.bias[:2].mean(0)
    x = torch.randn(5, C, dtype=F64)
    want = F.batch_norm(x, want_mean, want_var, weight, bias)
    for labels in (-1, 2, torch.tensor([-1, 2, 2, -1, 2])):
        torch.testing.assert_close(layer(x, labels), want, **CLOSE)
    y = layer(x, torch.tensor([0, -1, 1, 2, 0]))
    torch.testing.assert_close(y[0], layer(x, 0)[0], **CLOSE)
    torch.testing.assert_close(y[1], want[1], **CLOSE)


def test_fresh_layer_evaluates_as_torchs():
    layer, plain = bn.DomainBatchNorm1d(C, num_domains=D).eval(), nn.BatchNorm1d(C).eval()
    x = torch.randn(3, C)
    torch.testing.assert_close(layer(x, 1), plain(x))
    torch.testing.assert_close(layer(x, torch.tensor([0, 1, 2])), plain(x))


def test_traced_call_refuses_unseen_domains_of_samples():
    torch._dynamo.reset()
    compiled = torch.compile(trained(), backend="aot_eager", fullgraph=True)
    compiled(torch.randn(2, C, dtype=F64), torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match=r"index must.*\[0, 3\)"):
        compiled(torch.randn(2, C, dtype=F64), torch.tensor([0, 2]))
    torch._dynamo.reset()


@pytest.mark.parametrize("shared", [True, False])
def test_added_domain_can_be_trained(shared):
    layer = trained(shared_affine=shared).train()
    x, old = torch.randn(8, C, dtype=F64), snapshot(layer)
    assert layer.add_domain() == 3
    assert layer.add_domain(like=1) == 4
    assert layer.running_mean.shape == (5, C)
    assert layer.num_batches_tracked.tolist() == [10, 10, 0, 0, 10]
    assert torch.equal(layer.running_var[4], old["running_var"][1])
    assert torch.equal(layer.running_var[3], torch.ones(C, dtype=F64))
    assert torch.equal(layer.running_mean[:3], old["running_mean"])
    assert layer.weight.shape == ((C,) if shared else (5, C))
    layer(x, torch.tensor([3, 4] * 4)).square().sum().backward()
    assert layer.num_batches_tracked.tolist() == [10, 10, 0, 1, 11]
    assert layer.weight.grad.shape == layer.weight.shape
    again = bn.DomainBatchNorm1d(C, num_domains=5, shared_affine=shared).double()
    again.load_state_dict(layer.state_dict())


def test_adding_a_domain_in_the_middle_is_refused():
    layer = layer_of()
    with bn.accumulate(layer), pytest.raises(RuntimeError, match="not inside accumulate"):
        layer.add_domain()
    with pytest.raises(ValueError, match=r"like must be in \[0, 3\)"):
        layer.add_domain(like=3)


@pytest.mark.parametrize("shared", [True, False])
def test_state_of_a_plain_layer_goes_to_every_domain(shared):
    plain, layer = nn.BatchNorm1d(C), bn.DomainBatchNorm1d(C, num_domains=D, shared_affine=shared)
    plain(torch.randn(9, C) + 3)
    nn.init.normal_(plain.weight)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(5, C)
    want = plain.eval()(x)
    torch.testing.assert_close(layer.eval()(x, torch.tensor([0, 1, 2, 1, 0])), want)
    # And the rows have memory of their own.
    layer.train()(x, 0)
    assert torch.equal(layer.running_mean[1], plain.running_mean)


def test_domain_with_one_value_follows_the_policy():
    x, labels = torch.randn(5, C, dtype=F64), torch.tensor([0, 0, 2, 0, 0])
    with pytest.raises(ValueError, match=r"more than 1 value per channel.*domains \[2\]"):
        layer_of()(x, labels)
    for policy in ("skip", "running"):
        layer = layer_of(on_single=policy)
        layer.running_mean.normal_()
        before = snapshot(layer)
        y = layer(x, labels)
        others = F.batch_norm(x[labels == 0], None, None, layer.weight, layer.bias, True)
        torch.testing.assert_close(y[labels == 0], others, **CLOSE)
        assert layer.num_batches_tracked.tolist() == [1, 0, 0]
        assert torch.equal(layer.running_mean[1:], before["running_mean"][1:])
        assert not torch.equal(layer.running_mean[0], before["running_mean"][0])
        mean, var = before["running_mean"][2], before["running_var"][2]
        alone = F.batch_norm(x[2:3], mean, var, layer.weight, layer.bias)[0]
        torch.testing.assert_close(y[2], layer.bias if policy == "skip" else alone, **CLOSE)


@pytest.mark.parametrize("policy", ["error", "skip", "running"])
def test_one_domain_with_one_value_follows_the_policy(policy):
    layer = layer_of(on_single=policy)
    layer.running_mean.normal_()
    before, x = snapshot(layer), torch.randn(1, C, dtype=F64)
    if policy == "error":
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(x, 1)
    else:
        mean, var = before["running_mean"][1], before["running_var"][1]
        alone = F.batch_norm(x, mean, var, layer.weight, layer.bias)
        want = layer.bias.expand(1, -1) if policy == "skip" else alone
        torch.testing.assert_close(layer(x, 1), want, **CLOSE)
    assert_unchanged(layer, before)


@pytest.mark.parametrize(
    ("domain", "error", "rule"),
    [
        (None, RuntimeError, "a domain is needed"),
        ("main", ValueError, "have no names"),
        (3, ValueError, r"in \[0, 3\).*domain=3"),
        (-1, ValueError, r"in \[0, 3\)"),
        (True, TypeError, "bool"),
        (1.0, TypeError, "float"),
        (torch.tensor([0, 1]), ValueError, "one value per sample"),
        (torch.tensor(1), ValueError, "one value per sample"),
        (torch.zeros(4), TypeError, "int64"),
        (torch.tensor([0, 3, 1, 1]), ValueError, r"in \[0, 3\).*from 0 to 3"),
        (torch.tensor([0, -1, 1, 1]), ValueError, r"in \[0, 3\).*from -1 to 1"),
    ],
)
def test_wrong_domains_are_refused_before_anything_changes(domain, error, rule):
    layer = layer_of()
    before = snapshot(layer)
    with pytest.raises(error, match=rule):
        layer(torch.randn(4, C, 2, dtype=F64), domain)
    assert_unchanged(layer, before)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_compiled_layer_counts_as_the_eager_one(momentum):
    torch._dynamo.reset()
    eager = layer_of(momentum=momentum, shared_affine=False)
    twin = copy.deepcopy(eager)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for labels in ([0, 1, 0, 1], [2, 2, 0, 0], [0, 1, 0, 1]):
        x, labels = torch.randn(4, C, 3, dtype=F64), torch.tensor(labels)
        torch.testing.assert_close(compiled(x, labels), eager(x, labels), **CLOSE)
    for (name, a), b in zip(eager.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(b, a, msg=name, **CLOSE)
    torch._dynamo.reset()


def test_transforms_of_functions_commit_outside():
    layer = layer_of()
    twin = copy.deepcopy(layer)
    x, labels = torch.randn(6, C, dtype=F64), torch.tensor([0, 1, 0, 1, 1, 0])
    g = torch.randn_like(x)
    leaf = x.clone().requires_grad_()
    (layer(leaf, labels) * g).sum().backward()
    grad = torch.func.grad(lambda x: (twin(x, labels) * g).sum())(x)
    torch.testing.assert_close(grad, leaf.grad, **CLOSE)
    assert twin.num_batches_tracked.tolist() == [1, 1, 0]
    torch.testing.assert_close(twin.running_var, layer.running_var, **CLOSE)


@pytest.mark.parametrize("shared", [True, False])
def test_gradcheck_and_double_backward(shared):
    layer = layer_of(activation="tanh", shared_affine=shared)
    bn.set_updates(layer, False)
    labels = torch.tensor([0, 2, 0, 2, 2])
    x = torch.randn(5, C, 2, dtype=F64, requires_grad=True)
    for training in (True, False):
        layer.train(training)
        inputs = (x, *layer.parameters())
        assert torch.autograd.gradcheck(lambda x, *_: layer(x, labels), inputs)
        assert torch.autograd.gradgradcheck(lambda x, *_: layer(x, labels), inputs)


@pytest.mark.parametrize("number", [0, -1, 2.0, True])
def test_wrong_number_of_domains_is_refused(number):
    with pytest.raises((ValueError, TypeError), match=f"num_domains must be .*{number}"):
        bn.DomainBatchNorm1d(C, num_domains=number)
    with pytest.raises(ValueError, match="unseen must be one of"):
        bn.DomainBatchNorm1d(C, num_domains=2, unseen="guess")
