"""Adaptation: AdaBN, mixing and TENT, offline and on the way, in closed form and undone."""

import math

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.stats import OnlineAdapter, ResetGuard, adapt, recalibrate
from batchnorm.stats._entropy import entropies
from tests.stats.nets import F64, NORMS, assert_state, by_hand, images, net, rows, state

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
METHODS = ["adabn", "mix", "tent"]
KINDS = [nn.BatchNorm1d, bn.BatchNorm1d]


def test_adabn_is_recalibration_on_the_new_data():
    model, same = net(), net()
    report = adapt(model, images(), "adabn")
    recalibrate(same, images())
    for at in NORMS:
        assert torch.equal(model[at].running_var, same[at].running_var)
    assert report.examples == 27
    assert report.share == 1.0


@pytest.mark.parametrize("prior", [0.0, 9.0, 1e9])
def test_mix_weighs_by_examples(prior):
    model = net()
    with torch.no_grad():
        for at in NORMS:
            model[at].running_mean.normal_()
            model[at].running_var.uniform_(0.5, 2)
    source = {at: (model[at].running_mean.clone(), model[at].running_var.clone()) for at in NORMS}
    want = by_hand(model, images(), "together")
    report = adapt(model, images(), "mix", prior=prior)
    share = 27 / (prior + 27)
    assert report.share == pytest.approx(share)
    for at, (mean, var) in zip(NORMS, want, strict=True):
        old_mean, old_var = source[at]
        torch.testing.assert_close(model[at].running_mean, (1 - share) * old_mean + share * mean)
        torch.testing.assert_close(model[at].running_var, (1 - share) * old_var + share * var)


@pytest.mark.parametrize("method", METHODS)
def test_undo_and_failures_leave_the_source_model(method):
    model = net().train()
    model[1].weight.requires_grad_(False)
    before = state(model)
    adapt(model, images(), method).undo()
    assert_state(model, before)
    with pytest.raises(TypeError, match="must be a tensor"):
        adapt(model, [*images(), 3], method)
    assert_state(model, before)


@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_method_is_about_changes(method):
    model = net().train()
    before = state(model)
    adapt(model, images(), method)
    learned = ("1.weight", "1.bias", "4.weight", "4.bias", "8.weight", "8.bias")
    assert_state(model, before, but=STATISTICS + (learned if method == "tent" else ()))
    assert all(p.grad is None for p in model.parameters())


def test_mix_of_whitened_layers_mixes_covariances():
    layer = bn.WhitenedBatchNorm2d(3, group_size=3, eps=1e-9, affine=False).double()
    adapt(layer, images(), "mix", prior=27.0)
    cov = torch.cat([rows(x) for x in images()]).T.cov()
    half = (torch.eye(3, dtype=F64) + cov) / 2
    torch.testing.assert_close(layer.running_covariance[0], half)
    root = layer.running_whitening[0]
    torch.testing.assert_close(root @ half @ root.T, torch.eye(3, dtype=F64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_online_mix_normalises_by_source_and_batch(kind):
    layer = kind(2, affine=False, eps=1e-12).double()
    layer.running_mean.copy_(torch.tensor([4.0, -4.0]))
    layer.running_var.copy_(torch.tensor([9.0, 1.0]))
    source = layer.running_mean.clone(), layer.running_var.clone()
    adapter = OnlineAdapter(layer, "mix", prior=6)
    for n in (2, 6, 3):
        x = torch.randn(n, 2, dtype=F64) * 3 + 1
        share = n / (6 + n)
        mean = (1 - share) * source[0] + share * x.mean(0)
        var = (1 - share) * source[1] + share * x.var(0, correction=0)
        torch.testing.assert_close(adapter(x), (x - mean) / var.sqrt())


@pytest.mark.parametrize("kind", KINDS)
def test_online_mix_without_prior_is_the_batch_alone(kind):
    layer = kind(3).double()
    x = torch.randn(8, 3, dtype=F64) + 5
    y = OnlineAdapter(layer, "mix", prior=0)(x)
    torch.testing.assert_close(y, nn.functional.batch_norm(x, None, None, training=True))


@pytest.mark.parametrize("kind", KINDS)
def test_online_adabn_knows_everything_so_far(kind):
    layer = kind(3).double()
    adapter = OnlineAdapter(layer, "adabn")
    x = torch.randn(30, 3, dtype=F64) * 2 + 5
    for part in x.split(10):
        y = adapter(part)
    torch.testing.assert_close(layer.running_mean, x.mean(0))
    torch.testing.assert_close(layer.running_var, x.var(0))
    layer.eval()
    torch.testing.assert_close(y, layer(x[20:]))


def test_single_examples_can_be_adapted_to():
    layer = nn.BatchNorm1d(3).double()
    adapter = OnlineAdapter(layer, "mix", prior=15)
    x = torch.randn(1, 3, dtype=F64)
    assert adapter(x).isfinite().all()
    torch.testing.assert_close(layer.running_mean, x[0] / 16)
    torch.testing.assert_close(layer.running_var, torch.full((3,), 15 / 16, dtype=F64))
    first = OnlineAdapter(nn.BatchNorm1d(3).double(), "adabn")
    torch.testing.assert_close(first(x), x / (1 + 1e-5) ** 0.5)  # nothing known yet: the source


@pytest.mark.parametrize("method", METHODS)
def test_online_adapter_restores_modes_always_and_everything_on_undo(method):
    model = net().train()
    model[4].eval()
    before = state(model)
    learned = tuple(f"{at}.{name}" for at in NORMS for name in ("weight", "bias"))
    with OnlineAdapter(model, method) as adapter:
        for x in images():
            adapter(x)
            assert_state(model, before, but=STATISTICS + (learned if method == "tent" else ()))
        between = state(model)
        with pytest.raises(TypeError, match="must be a tensor"):
            adapter(3)
        assert_state(model, between)
    assert_state(model, before)


def classifier(kind=nn.BatchNorm1d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), kind(8), nn.ReLU(), nn.Linear(8, 3)).double()


@pytest.mark.parametrize("kind", KINDS)
def test_tent_step_is_gradient_descent_on_the_entropy(kind):
    model, same = classifier(kind), classifier()
    x = torch.randn(16, 4, dtype=F64)
    adapter = OnlineAdapter(model, "tent", optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    y = adapter(x)

    logits = same.train()(x)
    torch.testing.assert_close(y, logits)
    p = logits.float().softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    entropy.backward()
    for name in ("weight", "bias"):
        parameter = getattr(same[1], name)
        torch.testing.assert_close(
            getattr(model[1], name), parameter.detach() - 0.1 * parameter.grad
        )
    assert adapter.entropies == pytest.approx([entropy.item()])
    assert torch.equal(model[0].weight, same[0].weight)


def test_tent_does_not_learn_what_is_frozen():
    model = classifier(bn.BatchNorm1d)
    bn.freeze(model, stats=False, affine=True)
    with pytest.raises(ValueError, match="learns weight and bias"):
        OnlineAdapter(model, "tent")


@pytest.mark.parametrize("kind", KINDS)
def test_tent_lowers_the_entropy(kind):
    model = classifier(kind)
    data = list(torch.randn(20, 32, 4, dtype=F64) * 2 + 1)
    report = adapt(model, data, "tent", epochs=3)
    assert report.entropies[-1] < report.entropies[0]
    assert len(report.entropies) == 60
    mean = model[0](torch.cat(data)).mean(0)
    torch.testing.assert_close(model[1].running_mean, mean.detach())


def test_guard_resets_when_predictions_collapse():
    # github.com/DequanWang/tent/issues/7: worse with every pass.
    def run(guard):
        model = classifier()
        adapter = OnlineAdapter(
            model, "tent", guard=guard, optimizer=lambda p: torch.optim.SGD(p, lr=2.0)
        )
        outputs = [adapter(torch.randn(32, 4, dtype=F64)) for _ in range(150)]
        return adapter, entropies(torch.cat(outputs[-10:]))[1].item()

    adapter, variety = run(ResetGuard(variety=0.0))
    start = run(ResetGuard(every=1))[1]
    assert not adapter.resets
    assert variety < 0.5 * start  # unguarded it collapses
    adapter, _ = run(ResetGuard(variety=0.7))
    assert {reason for _, reason in adapter.resets} == {"collapsed"}


def test_guard_never_takes_a_step_that_is_not_finite():
    model = classifier()
    adapter = OnlineAdapter(model, "tent")
    adapter(torch.randn(8, 4, dtype=F64))
    bad = torch.randn(8, 4, dtype=F64)
    bad[0, 0] = float("nan")
    adapter(bad)
    assert adapter.resets == [(2, "not finite")]
    assert torch.equal(model[1].weight, torch.ones(8, dtype=F64))
    assert model[1].running_mean.isfinite().all()
    adapter(torch.randn(8, 4, dtype=F64))
    assert model[1].weight.isfinite().all()


def test_guard_resets_when_due():
    model = classifier()
    adapter = OnlineAdapter(model, "tent", guard=ResetGuard(every=3))
    for _ in range(7):
        adapter(torch.randn(8, 4, dtype=F64))
    assert adapter.resets == [(3, "due"), (6, "due")]


def test_unreliable_predictions_teach_nothing():
    model = classifier()
    before = [p.detach().clone() for p in model.parameters()]
    adapter = OnlineAdapter(
        model, "tent", reliable=1e-9, optimizer=lambda p: torch.optim.SGD(p, lr=1.0)
    )
    adapter(torch.randn(8, 4, dtype=F64))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_entropy_in_closed_form():
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(3.0), 0.0]], dtype=F64)
    each, marginal = entropies(logits)
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(each, torch.full((2,), h))
    assert marginal.item() == pytest.approx(math.log(2))
    dense = logits.T.reshape(1, 2, 2)  # positions are predictions too
    torch.testing.assert_close(entropies(dense)[0], each)


@pytest.mark.parametrize("make", [adapt, lambda model, _, *a, **o: OnlineAdapter(model, *a, **o)])
def test_impossible_wishes_are_refused(make):
    model = classifier()
    with pytest.raises(ValueError, match="method must be one of.*'cotta'"):
        make(model, images(), "cotta")
    with pytest.raises(ValueError, match="prior must not be negative"):
        make(model, images(), "mix", prior=-1)
    with pytest.raises(ValueError, match="batch norm"):
        make(nn.Linear(2, 2), images(), "adabn")
    with pytest.raises(ValueError, match="affine=False, or frozen"):
        make(nn.BatchNorm1d(2, affine=False), [torch.randn(4, 2)], "tent")
    with pytest.raises(ValueError, match="variety=2"):
        ResetGuard(variety=2)


def test_tent_reads_its_data_again():
    with pytest.raises(ValueError, match="more than once"):
        adapt(classifier(), iter(images()), "tent")


@pytest.mark.parametrize("method", ["adabn", "mix"])
def test_adaptation_undoes_a_shift_of_the_input(method):
    """A network is trained, its input shifts, and adaptation brings the accuracy back."""
    torch.manual_seed(0)
    centres = torch.randn(3, 4) * 2
    y = torch.randint(3, (600,))
    x = centres[y] + torch.randn(600, 4) * 0.5
    model = nn.Sequential(bn.BatchNorm1d(4), nn.Linear(4, 8), bn.BatchNorm1d(8), nn.ReLU(),
                          nn.Linear(8, 3))  # fmt: skip
    opt = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(60):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    model.eval()
    shifted = x * torch.tensor([5.0, 0.2, 1.0, 3.0]) + 4

    def accuracy(x):
        return (model(x).argmax(1) == y).float().mean().item()

    first, broken = accuracy(x), accuracy(shifted)
    adapt(model, shifted.split(100), method, prior=1.0)
    assert broken < first - 0.2
    assert accuracy(shifted) > first - 0.05
