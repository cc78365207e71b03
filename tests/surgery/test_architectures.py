"""Published networks: converted, fused, folded and given norms, with the function kept."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.lab.test_networks import NORMS, SMALL
from tests.surgery.models import randomise


def network(name, norm):
    return randomise(SMALL[name](norm, seed=0)).double()


def image():
    return torch.randn(2, 3, 32, 32, dtype=torch.float64)


def assert_same_at_inference(model, twin, x):
    torch.testing.assert_close(model.eval()(x), twin.eval()(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_of_a_network_is_converted_and_fused(name):
    model, x = network(name, NORMS[name][0]), image()
    twin, keys = copy.deepcopy(model), list(model.state_dict())
    report = bn.convert(model, fuse=True, sample=x)
    assert not report.skipped
    assert list(report.model.state_dict()) == keys
    assert_same_at_inference(report.model, twin, x)
    left = [
        m for m in report.model.modules() if type(m).__module__.startswith("torch.nn.modules.b")
    ]
    assert not [m for m in left if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(
    ("name", "activations", "additions"),
    [("resnet", 7, 3), ("bottleneck", 7, 2), ("mobilenet v2", 35, 12), ("unet", 10, 0)],
)
def test_fusion_reaches_what_follows(name, activations, additions):
    model = network(name, NORMS[name][0])
    report = bn.convert(model, fuse=True, sample=image())
    reasons = [change.reason for change in report.done]
    assert sum("relu" in reason for reason in reasons) == activations
    assert sum("addition" in reason for reason in reasons) == additions


@pytest.mark.parametrize("name", ["resnet", "mobilenet v2", "densenet", "unet"])
def test_fused_networks_fold(name):
    model, x = network(name, NORMS[name][0]), image()
    twin = copy.deepcopy(model)
    model = bn.convert(model, fuse=True, sample=x).model.eval()
    report = bn.fold(model, x)
    assert_same_at_inference(report.model, twin, x)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "lstm"])
def test_networks_without_norms_get_them_where_published_ones_have_them(name):
    bare, x = network(name, None), image()
    twin = copy.deepcopy(bare)
    report = bn.insert(bare, start="identity", sample=x)
    assert_same_at_inference(bare, twin, x)
    outputs = [change for change in report.skipped if "output layer" in change.reason]
    assert len(outputs) == 1
    convolutions = [m for m in twin.modules() if isinstance(m, nn.Conv2d)]
    assert len(report.done) >= len(convolutions) - 1
