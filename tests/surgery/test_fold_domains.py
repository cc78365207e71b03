"""Folding a batch norm by domain: the one domain that is fixed, or a reason and the way out."""

import pytest
import torch
from torch import nn

import batchnorm as bn

X = torch.randn(6, 3, 8, 8)


def trained(kind=bn.DomainBatchNorm2d, act="identity", **options):
    if kind is bn.DomainBatchNorm2d:
        options = {"num_domains": 3, **options}
    torch.manual_seed(0)
    norm = kind(5, activation=act, **options)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.num_batches_tracked.fill_(7)
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    return norm.eval()


def net(norm):
    return nn.Sequential(nn.Conv2d(3, 5, 3), norm, nn.ReLU()).eval()


class Calls(nn.Module):
    """Passes what it is told to its norm."""

    def __init__(self, norm, *args, **kwargs):
        super().__init__()
        self.conv, self.norm, self.args, self.kwargs = nn.Conv2d(3, 5, 3), norm, args, kwargs
        self.eval()

    def forward(self, x):
        return self.norm(self.conv(x), *self.args, **self.kwargs)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("act", ["identity", "silu"])
@pytest.mark.parametrize("k", range(3))
def test_the_domain_of_the_context_is_folded(k, act, shared):
    model = net(trained(act=act, shared_affine=shared))
    with bn.domain(model, k), torch.no_grad():
        want = model(X)
        report = bn.fold(model, X)
    assert not report.skipped
    assert f"as domain {k}" in str(report)
    torch.testing.assert_close(model(X), want, rtol=1e-4, atol=1e-5)
    report.undo()
    with bn.domain(model, k), torch.no_grad():
        assert torch.equal(model(X), want)


@pytest.mark.parametrize("sample", [None, X])
@pytest.mark.parametrize("how", [((1,), {}), ((), {"domain": 1})])
def test_a_number_that_the_model_passes_counts_and_is_kept(how, sample):
    model = Calls(trained(act="relu"), *how[0], **how[1])
    want = model(X)
    with bn.domain(model, 2):  # which the call overrules
        report = bn.fold(model, sample)
    assert not report.skipped
    torch.testing.assert_close(model(X), want, rtol=1e-4, atol=1e-5)
    model.args, model.kwargs = (2,), {}
    with pytest.raises(ValueError, match="was folded for domain 1.*domain=2"):
        model(X)


def test_the_main_split_is_folded_without_a_context_and_the_other_inside_one():
    model = net(trained(bn.SplitBatchNorm2d))
    want = model(X)
    report = bn.fold(model, X)
    assert "as domain 'main'" in str(report)
    torch.testing.assert_close(model(X), want, rtol=1e-4, atol=1e-5)
    report.undo()
    with bn.domain(model, "auxiliary"):
        other = model(X)
        bn.fold(model, X)
    assert not torch.allclose(other, want)
    torch.testing.assert_close(model(X), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (None, "no domain is fixed: fold inside `with batchnorm.domain"),
        (torch.zeros(6, dtype=torch.long), "given for each sample: fold inside"),
        (-1, "domain -1 was never trained, and unseen='error'"),
        (3, "there is no domain 3"),
        ("main", "has no domain 'main'"),
    ],
)
def test_without_one_domain_it_stays_and_says_the_way_out(labels, reason):
    model = net(trained())
    before = list(model)
    if labels is None:
        report = bn.fold(model)
    else:
        with bn.domain(model, labels):
            report = bn.fold(model)
    assert not report.done
    assert reason in report.skipped[0].reason
    assert all(a is b for a, b in zip(model, before, strict=True))


def test_labels_that_the_model_passes_cannot_be_folded():
    class Labelled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 5, 3), trained()

        def forward(self, x, labels):
            return self.norm(self.conv(x), labels)

    model = Labelled().eval()
    labels = torch.arange(6) % 3
    for sample in (None, (X, labels)):
        report = bn.fold(model, sample)
        assert "given for each sample: pass an integer" in report.skipped[0].reason


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("k", [-1, 1])
def test_what_is_unseen_is_folded_as_the_pool(k, shared):
    norm = trained(unseen="pooled", shared_affine=shared)
    norm.num_batches_tracked[1] = 0
    model = net(norm)
    with bn.domain(model, k), torch.no_grad():
        want = model(X)
        report = bn.fold(model, X)
    assert "all pooled" in str(report)
    torch.testing.assert_close(model(X), want, rtol=1e-4, atol=1e-5)


def test_the_domain_folds_into_the_layer_behind():
    model = nn.Sequential(trained(), nn.Conv2d(5, 2, 3)).eval()
    x = torch.randn(2, 5, 6, 6)
    with bn.domain(model, 1), torch.no_grad():
        want = model(x)
        assert not bn.fold(model, x).skipped
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)


def test_residual_and_mask_stay():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), trained_of(3)

        def forward(self, x):
            return self.norm(self.conv(x), 0, x)

    def trained_of(channels):
        norm = bn.DomainBatchNorm2d(channels, num_domains=2, activation="relu")
        norm(torch.randn(8, channels, 2, 2) + 1, torch.arange(8) % 2)
        return norm

    model = Block().eval()
    with torch.no_grad():
        want = model(X)
    assert not bn.fold(model, X).skipped
    torch.testing.assert_close(model(X), want, rtol=1e-4, atol=1e-5)


def test_folding_on_the_fly_leaves_domains():
    model = net(trained())
    with bn.domain(model, 1):
        want = model(X)
        report = bn.freeze(model, fold=True, sample=X)
        torch.testing.assert_close(model(X), want)
    assert "several domains" in str(report)


RIGID = {
    "plain": lambda: bn.BatchNorm2d(5),
    "sync": lambda: bn.SyncBatchNorm(5),
    "ghost": lambda: bn.GhostBatchNorm2d(5, ghost_batch_size=2),
    "renorm": lambda: bn.BatchRenorm2d(5),
    "whitened": lambda: bn.WhitenedBatchNorm2d(5),
    "split": lambda: bn.SplitBatchNorm2d(5),
    "torch": lambda: nn.BatchNorm2d(5),
}


@pytest.mark.parametrize("kind", RIGID)
def test_every_batch_norm_of_images_folds(kind):
    model = net(RIGID[kind]())
    assert not bn.fold(model, X).skipped


def test_recurrent_layers_say_why_they_stay():
    class Net(nn.Module):
        def __init__(self, mode):
            super().__init__()
            self.rnn = bn.BatchNormLSTM(3, 4, mode=mode, max_length=5)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    texts = {"recurrent": "statistics of every time step", "sequence": "BatchNormLSTM applies it"}
    for mode, text in texts.items():
        report = bn.fold(Net(mode).eval(), torch.randn(5, 2, 3))
        assert not report.done
        assert all(text in change.reason for change in report.skipped)
