"""The context that tells a model its domain, and the layer whose domains have names."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import batchnorm as bn

C = 4


def net(kind=bn.DomainBatchNorm1d, **options):
    torch.manual_seed(0)
    options = {"num_domains": 3, **options} if kind is bn.DomainBatchNorm1d else options
    return nn.Sequential(
        nn.Linear(C, C), kind(C, **options), nn.ReLU(), nn.Sequential(kind(C, **options))
    ).double()


def counts(model):
    return [m.num_batches_tracked.tolist() for m in (model[1], model[3][0])]


def test_every_layer_of_the_model_gets_the_labels():
    model, x = net(), torch.randn(6, C, dtype=torch.float64)
    labels = torch.tensor([0, 2, 0, 2, 2, 0])
    with bn.domain(model, labels):
        y = model(x)
    assert counts(model) == [[1, 0, 1], [1, 0, 1]]
    twin = net()
    h = torch.relu(twin[1](twin[0](x), labels))
    assert torch.equal(y, twin[3][0](h, labels))


def test_contexts_nest_and_restore_when_the_body_raises():
    model, x = net(), torch.randn(6, C, dtype=torch.float64)

    def broken_step():
        with bn.domain(model, 1):
            model(x)
            raise KeyError

    with bn.domain(model, 0):
        with pytest.raises(KeyError):
            broken_step()
        model(x)
        with bn.domain(model[3], 2):
            model(x)
    assert counts(model) == [[2, 1, 0], [1, 1, 1]]
    with pytest.raises(RuntimeError, match="a domain is needed"):
        model(x)


def test_argument_takes_precedence():
    layer = bn.DomainBatchNorm1d(C, num_domains=2)
    with bn.domain(layer, 0):
        layer(torch.randn(3, C), 1)
    assert layer.num_batches_tracked.tolist() == [0, 1]


def test_model_without_domains_is_refused():
    with pytest.raises(ValueError, match="layers with domains"), bn.domain(nn.Linear(1, 1), 0):
        pass


def test_shared_layer_is_restored():
    layer = bn.DomainBatchNorm1d(C, num_domains=2)
    with bn.domain(nn.ModuleList([layer, nn.Sequential(layer)]), 1):
        assert layer._domain == 1
    assert layer._domain is None


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_batch_counts_once_for_its_domain(reentrant):
    plain, saved = net(), net()
    x = torch.randn(6, C, dtype=torch.float64)
    g = torch.randn(6, C, dtype=torch.float64)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    labels = torch.tensor([0, 2, 0, 2, 2, 0])
    with bn.domain(plain, labels), bn.domain(saved, labels):
        plain(a).backward(g)
        checkpoint(saved, b, use_reentrant=reentrant).backward(g)
    assert torch.equal(a.grad, b.grad)
    assert counts(saved) == counts(plain) == [[1, 0, 1], [1, 0, 1]]


def test_compiled_model_follows_the_context():
    torch._dynamo.reset()
    model = net()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(6, C, dtype=torch.float64)
    for label in (0, 1, torch.tensor([2, 0, 2, 0, 0, 2])):
        with bn.domain(model, label):
            compiled(x)
    assert counts(model) == [[2, 1, 1], [2, 1, 1]]
    torch._dynamo.reset()


def test_split_is_batch_norm_until_a_context_says_otherwise():
    split, plain = net(bn.SplitBatchNorm1d), net(bn.BatchNorm1d)
    clean, adversarial = torch.randn(2, 6, C, dtype=torch.float64)
    assert torch.equal(split(clean), plain(clean))
    with bn.domain(split, "auxiliary"):
        split(adversarial + 3)
    assert counts(split) == [[1, 1], [1, 1]]
    for one, other in zip((split[1], split[3][0]), (plain[1], plain[3][0]), strict=True):
        assert torch.equal(one.running_mean[0], other.running_mean)
        assert not torch.equal(one.running_mean[1], other.running_mean)
    assert torch.equal(split.eval()(clean), plain.eval()(clean))


def test_split_learns_a_weight_each():
    layer = bn.SplitBatchNorm1d(C)
    with bn.domain(layer, "auxiliary"):
        layer(torch.randn(6, C)).backward(torch.randn(6, C))
    assert not layer.weight.grad[0].any()
    assert layer.weight.grad[1].all()
    assert bn.SplitBatchNorm1d(C, shared_affine=True).weight.shape == (C,)


def test_split_names():
    layer = bn.SplitBatchNorm1d(C, names=("clean", "weak", "strong"))
    with bn.domain(layer, "strong"):
        layer(torch.randn(6, C))
    assert layer.num_batches_tracked.tolist() == [0, 0, 1]
    assert "names=('clean', 'weak', 'strong')" in repr(layer)
    with bn.domain(layer, "main"), pytest.raises(ValueError, match=r"'clean', 'weak'.*'main'"):
        layer(torch.randn(6, C))
    with pytest.raises(RuntimeError, match="splits are fixed"):
        layer.add_domain()
    for bad in ("main", (), ("a", "a")):
        with pytest.raises(ValueError, match="names must be different strings"):
            bn.SplitBatchNorm1d(C, names=bad)


def test_split_mixes_in_one_batch_too():
    layer = bn.SplitBatchNorm2d(C)
    layer(torch.randn(6, C, 2, 2), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert layer.num_batches_tracked.tolist() == [1, 1]


def test_split_survives_copies():
    layer = bn.SplitBatchNorm1d(C, names=("a", "b"))
    layer(torch.randn(6, C))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.names == ("a", "b")
        assert torch.equal(other.running_mean, layer.running_mean)
