"""Whole networks folded: the same outputs, and exactly the batch norms left that must be."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.lab import models
from tests.surgery.folding import seen
from tests.tolerance import ulp

NETWORKS = {
    "resnet basic": lambda norm: models.ResNet(norm, seed=0, depths=(1, 1), width=8),
    "resnet bottleneck": lambda norm: models.ResNet(
        norm, seed=0, depths=(1, 1), width=8, bottleneck=True
    ),
    "resnet pre-activation": lambda norm: models.PreActivationResNet(
        norm, seed=0, depths=(1, 1), width=8
    ),
    "mobilenet v2": lambda norm: models.MobileNetV2(norm, seed=0, width=0.25),
    "mobilenet v3": lambda norm: models.MobileNetV3(norm, seed=0, width=0.25),
    "densenet": lambda norm: models.DenseNet(norm, seed=0, blocks=(2, 2), growth=4),
    "unet": lambda norm: models.UNet(norm, seed=0, width=4),
    "inception": lambda norm: models.Inception(norm, seed=0, width=0.25),
}
# Batch norms in front of an activation, or behind an addition or concatenation, cannot go.
STAY = {"resnet pre-activation", "densenet"}


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, bn.BatchNorm2d], ids=["torch", "ours"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_computes_the_same(name, norm):
    model = seen(NETWORKS[name](norm))
    for layer in norms(model):  # tame: random weights of many layers would overflow
        nn.init.uniform_(layer.weight, 0.5, 1.5)
    x = torch.randn(2, 3, 32, 32)
    count = len(norms(model))

    report = bn.fold(model, x)

    # Rounding of some tens of layers, each a sum of up to a thousand products.
    assert report.proofs[0].max_rel < 2**12 * ulp(torch.float32)
    assert bool(norms(model)) == (name in STAY)
    assert len(norms(model)) == len(report.skipped) < count
    known = "fed by", "also read by others"
    assert all(any(text in change.reason for text in known) for change in report.skipped)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_frozen_and_folded_on_the_fly_computes_the_same(name):
    model = seen(NETWORKS[name](bn.BatchNorm2d))
    for layer in norms(model):
        nn.init.uniform_(layer.weight, 0.5, 1.5)

    report = bn.freeze(model, fold=True, sample=torch.randn(2, 3, 32, 32))

    outputs, gradients = report.proofs
    assert outputs.max_rel < 2**12 * ulp(torch.float32)
    # ReLU opens or closes where rounding moves a value across zero.
    assert gradients.max_rel < 2**16 * ulp(torch.float32)
