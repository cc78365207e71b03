"""Plain batch norm into each of our variants, and out of those that hold nothing more."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.surgery import convert
from tests.surgery.models import randomise

X = (6, 3, 5, 5)
SAME_AT_INFERENCE = {
    "BatchNorm": {},
    "SyncBatchNorm": {},
    "GhostBatchNorm": {"ghost_batch_size": 4},
    "BatchRenorm": {},
}


def plain():
    return randomise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()))


@pytest.mark.parametrize(("family", "options"), SAME_AT_INFERENCE.items())
def test_a_variant_computes_the_same_at_inference(family, options):
    model, x = plain().double(), torch.randn(X).double()
    twin = copy.deepcopy(model).eval()
    report = convert(model, family, sample=x, **options)
    assert type(model[1]).__name__.startswith(family)
    assert type(model[1]).__module__.startswith("batchnorm.layers")
    torch.testing.assert_close(model.eval()(x), twin(x), rtol=1e-12, atol=1e-12)
    assert all(proof.max_rel < 1e-10 for proof in report.proofs)


@pytest.mark.parametrize(("family", "options"), SAME_AT_INFERENCE.items())
def test_a_variant_converts_back_bit_for_bit(family, options):
    model = plain()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    convert(model, family, **options)
    convert(model, "torch.BatchNorm", sample=torch.randn(X))
    assert type(model[1]) is nn.BatchNorm2d
    assert list(model.state_dict()) == list(before)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("shared", [True, False])
def test_every_domain_starts_with_the_statistics_of_the_whole(shared):
    model, x = plain().double(), torch.randn(X).double()
    want = copy.deepcopy(model).eval()(x)
    convert(model, "DomainBatchNorm", sample=x, num_domains=3, shared_affine=shared)
    assert model[1].running_mean.shape == (3, 4)
    assert model[1].weight.shape == ((4,) if shared else (3, 4))
    with bn.domain(model.eval(), torch.tensor([0, 1, 2, 2, 1, 0])):
        torch.testing.assert_close(model(x), want, rtol=1e-12, atol=1e-12)


def test_a_split_starts_with_the_statistics_of_the_whole():
    model, x = plain().double(), torch.randn(X).double()
    want = copy.deepcopy(model).eval()(x)
    convert(model, "SplitBatchNorm", sample=x)
    for name in ("main", "auxiliary"):
        with bn.domain(model.eval(), name):
            torch.testing.assert_close(model(x), want, rtol=1e-12, atol=1e-12)


def test_untrained_domains_are_converted_without_comparison():
    model = nn.Sequential(nn.BatchNorm2d(3))
    report = convert(model, bn.DomainBatchNorm2d, sample=torch.randn(X), num_domains=2)
    assert report.done
    assert not report.proofs


def test_whitening_is_another_function_and_starts_to_train():
    model = plain()
    report = convert(model, "WhitenedBatchNorm", sample=torch.randn(X))
    assert report.proofs[0].max_rel > 1e-3
    model(torch.randn(X)).square().sum().backward()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: bn.DomainBatchNorm2d(4, num_domains=2), "several domains"),
        (lambda: bn.SplitBatchNorm2d(4), "several parts"),
        (lambda: bn.WhitenedBatchNorm2d(4), "whitening matrix"),
        (lambda: bn.SequenceBatchNorm(4, channel_axis=-1), "channels are not in dimension 1"),
        (lambda: bn.RecurrentBatchNorm(4, 3), "every time step"),
    ],
)
def test_state_that_has_no_place_elsewhere_is_not_dropped(layer, reason):
    model = nn.Sequential(layer())
    before = model[0]
    (change,) = convert(model, "torch.BatchNorm").skipped
    assert reason in change.reason
    assert model[0] is before


def test_synchronised_layers_learn_their_path():
    model = nn.Sequential(plain(), nn.BatchNorm2d(4))
    convert(model, "SyncBatchNorm")
    assert model[0][1].name == "0.1"


def test_classes_and_their_names_are_targets_too():
    for to in (bn.GhostBatchNorm1d, "GhostBatchNorm3d", "GhostBatchNorm"):
        model = plain()
        convert(model, to, ghost_batch_size=2)
        assert type(model[1]) is bn.GhostBatchNorm2d


def test_options_change_a_layer_of_the_same_kind():
    model = nn.Sequential(bn.GhostBatchNorm2d(4, ghost_batch_size=2))
    convert(model, "GhostBatchNorm", ghost_batch_size=8)
    assert model[0].ghost_batch_size == 8


def test_a_required_option_that_is_missing_is_an_error():
    model = plain()
    with pytest.raises(TypeError, match="ghost_batch_size"):
        convert(model, "GhostBatchNorm")
    assert type(model[1]) is nn.BatchNorm2d


def test_activation_and_policy_go_along():
    model = nn.Sequential(bn.BatchNorm2d(4, activation="elu", slope=0.3, on_single="skip"))
    convert(model, "GhostBatchNorm", ghost_batch_size=2)
    layer = model[0]
    assert (layer.activation, layer.slope, layer.on_single) == ("elu", 0.3, "skip")


def test_a_step_by_step_layer_is_no_target():
    with pytest.raises(ValueError, match="unknown target"):
        convert(plain(), "RecurrentBatchNorm", max_length=3)
