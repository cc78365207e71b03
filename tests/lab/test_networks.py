"""The networks are the published ones, small on request, with the norm that the caller wants."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.lab import models
from batchnorm.lab.models import (
    ConvNet,
    DenseNet,
    Inception,
    LstmNet,
    MobileNetV2,
    MobileNetV3,
    PreActivationResNet,
    ResNet,
    UNet,
    densenet121,
    resnet18,
    resnet50,
)


class Sequences(LstmNet):
    """Images read row by row, so that all networks take the same input."""

    def __init__(self, norm, *, seed):
        super().__init__(3 * 32, norm, seed=seed, hidden=8)

    def forward(self, x):
        return super().forward(x.transpose(1, 2).flatten(2))


SMALL = {
    "convolutions": lambda norm, **o: ConvNet(norm, channels=3, classes=10, **o),
    "convolutions, norm after": lambda norm, **o: ConvNet(
        norm, channels=3, classes=10, placement="after", **o
    ),
    "resnet": lambda norm, **o: ResNet(norm, depths=(1, 1, 1), width=8, **o),
    "bottleneck": lambda norm, **o: ResNet(norm, depths=(1, 1), width=8, bottleneck=True, **o),
    "large stem": lambda norm, **o: ResNet(norm, depths=(1,), width=8, stem="large", **o),
    "pre-activation": lambda norm, **o: PreActivationResNet(norm, depths=(1, 2), width=8, **o),
    "mobilenet v2": lambda norm, **o: MobileNetV2(norm, width=0.25, small=True, classes=10, **o),
    "mobilenet v3": lambda norm, **o: MobileNetV3(norm, width=0.25, stride=1, classes=10, **o),
    "densenet": lambda norm, **o: DenseNet(norm, blocks=(2, 2), growth=4, **o),
    "inception": lambda norm, **o: Inception(norm, width=0.125, small=True, **o),
    "unet": lambda norm, **o: UNet(norm, width=4, levels=2, **o),
    "lstm": lambda norm, **o: Sequences(norm, **o),
}
NORMS = {
    "lstm": (nn.BatchNorm1d, bn.BatchNorm1d),
    **dict.fromkeys([name for name in SMALL if name != "lstm"], (nn.BatchNorm2d, bn.BatchNorm2d)),
}


# What the papers' authors or torchvision publish.
@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (resnet18, 11_689_512),
        (resnet50, 25_557_032),
        (MobileNetV2, 3_504_872),
        (lambda norm, seed: MobileNetV3(norm, seed=seed, size="large"), 5_483_032),
        (lambda norm, seed: MobileNetV3(norm, seed=seed, size="small"), 2_542_856),
        (densenet121, 7_978_856),
        (lambda norm, seed: DenseNet(norm, seed=seed, blocks=(16, 16, 16)), 769_162),
        (UNet, 31_037_698),
    ],
)
def test_number_of_parameters_is_the_published_one(make, parameters):
    model = make(nn.BatchNorm2d, seed=0)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_inception_modules_have_the_papers_channels():
    modules = [m for m in Inception(None, seed=0).features if hasattr(m, "branches")]
    assert [m.outputs for m in modules] == [256, 320, 576, 576, 576, 576, 576, 1024, 1024, 1024]


@pytest.mark.parametrize("name", SMALL)
def test_our_layer_and_torchs_make_the_same_network(name):
    theirs, ours = (SMALL[name](norm, seed=3) for norm in NORMS[name])
    assert list(theirs.state_dict()) == list(ours.state_dict())
    x, g = torch.randn(4, 3, 32, 32), torch.Generator().manual_seed(0)
    outputs = []
    for model in (theirs, ours):
        model.double().train()
        for module in model.modules():
            module.p = 0.0 if isinstance(module, nn.Dropout) else getattr(module, "p", None)
        y = model(x.double())
        (y * torch.randn(y.shape, generator=g.manual_seed(0))).sum().backward()
        outputs.append(y)
    torch.testing.assert_close(*outputs)
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=1e-8)
    assert any(p.grad.abs().max() > 0 for p in ours.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_and_every_norm_takes_part(name):
    norm = NORMS[name][1]
    model = SMALL[name](norm, seed=0).train()
    y = model(torch.randn(4, 3, 32, 32))
    (y * torch.randn(y.shape)).sum().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing
    norms = [m for m in model.modules() if isinstance(m, norm)]
    assert norms
    assert all(m.num_batches_tracked.item() == 1 for m in norms)


@pytest.mark.parametrize("name", SMALL)
def test_without_a_norm_convolutions_have_a_bias(name):
    bare, normed = (SMALL[name](norm, seed=0) for norm in (None, NORMS[name][0]))
    assert not [m for m in bare.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert bare.eval()(torch.randn(2, 3, 32, 32)).isfinite().all()
    biases = [
        [m.bias is not None for m in model.modules() if type(m) is nn.Conv2d]
        for model in (bare, normed)
    ]
    assert all(biases[0])
    # Only squeeze-and-excitation and the last layer of a U-Net have no norm behind them.
    assert name == "lstm" or not all(biases[1])


@pytest.mark.parametrize("name", SMALL)
def test_weights_depend_on_the_seed_alone(name):
    before = torch.get_rng_state()
    a, b, c = (SMALL[name](norm, seed=s) for norm, s in ((None, 1), (NORMS[name][1], 1), (None, 2)))
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (
        [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        for model in (a, b, c)
    )
    assert all(torch.equal(p, q) for p, q in zip(first, same, strict=True))
    assert not any(torch.equal(p, q) for p, q in zip(first, other, strict=True))


def test_public_names():
    assert {"ARMS", "Arm", "SigmoidNet", "Norm", "resnet18", "Inception"} <= set(vars(models))


def test_inception_can_be_made_of_some_modules_without_batch_norms_companions():
    def made(**options: object) -> list[nn.Module]:
        return list(Inception(None, seed=0, width=0.125, small=True, **options).modules())

    short = made(modules=("3a", "4e"), activation=nn.Sigmoid, dropout=True, response=True)
    outputs = [module.outputs for module in short if hasattr(module, "branches")]

    assert outputs == [32, 88]
    assert not any(isinstance(module, nn.ReLU) for module in short)
    assert sum(isinstance(module, nn.Sigmoid) for module in short) == 1 + 7 + 5
    assert sum(isinstance(module, nn.Dropout | nn.LocalResponseNorm) for module in short) == 2
    assert not any(isinstance(module, nn.Dropout | nn.LocalResponseNorm) for module in made())
