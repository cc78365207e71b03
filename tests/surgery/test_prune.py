"""The listing of channels that are all but switched off."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.surgery._prune import prune_report


def model_with(*weights):
    layers = [nn.BatchNorm1d(len(values)) for values in weights]
    for layer, values in zip(layers, weights, strict=True):
        layer.weight.data = torch.tensor(values)
    return nn.Sequential(*layers)


def test_small_weights_of_either_sign_are_listed_smallest_first():
    model = model_with([0.5, -0.009, 0.001, 2.0], [1.0, 1.0])

    report = prune_report(model)

    assert report.rows[0].channels == (2, 1)
    assert report.rows[0].smallest == pytest.approx(0.001)
    assert report.rows[1].channels == ()
    assert (report.count, report.total) == (2, 6)


def test_the_fraction_is_of_the_whole_model():
    model = model_with([0.1, 0.2, 0.3, 0.4], [0.15, 5.0, 6.0, 7.0])

    report = prune_report(model, fraction=0.375)

    assert [row.channels for row in report.rows] == [(0, 1), (0,)]
    assert report.threshold == pytest.approx(0.2)
    assert prune_report(model, fraction=0.0).count == 0
    assert prune_report(model, fraction=1.0).count == 8


def test_the_model_is_not_changed():
    model = model_with([0.0, 1.0])
    before = copy.deepcopy(model.state_dict())

    prune_report(model)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_shared_layer_counts_once_and_layers_without_weight_are_named():
    layer = bn.BatchNorm1d(3)
    model = nn.Sequential(layer, layer, bn.BatchNorm1d(3, affine=False))

    report = prune_report(model)

    assert [row.path for row in report.rows] == ["0, 1"]
    assert report.total == 3
    assert report.skipped == ("2",)
    assert "without a weight: 2" in str(report)


def test_a_channel_of_domains_is_as_large_as_in_its_largest_domain():
    layer = bn.DomainBatchNorm1d(3, num_domains=2, shared_affine=False)
    layer.weight.data = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

    assert prune_report(layer).rows[0].channels == (0,)


def test_long_lists_are_cut_in_the_text():
    text = str(prune_report(model_with([0.0] * 20)))

    assert "0, 1, 2, 3, 4, 5, 6, 7 and 12 more" in text
    assert "20 of 20 channels" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"threshold": -1.0}, "threshold must not be negative"),
        ({"fraction": 1.5}, r"from 0 to 1. Got fraction=1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        prune_report(nn.BatchNorm1d(3), **arguments)


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="Linear without one"):
        prune_report(nn.Linear(3, 3))
