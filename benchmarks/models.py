"""Two networks of 112x112 images, built from any normalisation: a ResNet-18 and a MobileNetV2.

Each of them takes a *block factory* ``norm(channels, activation) -> module`` whose modules are
called as ``module(x)`` or ``module(x, residual)``. The factories below give batch norm by torch as
torchvision writes it (activation and addition in place), by us with everything fused, and none.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

import batchnorm

__all__ = ["NETS", "NORMS", "build"]

Factory = Callable[[int, str], nn.Module]


class TorchNorm(nn.BatchNorm2d):
    """torch's layer, then addition and activation in place."""

    def __init__(self, channels: int, activation: str):
        super().__init__(channels)
        self.activation = activation

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return _finish(super().forward(x), residual, self.activation)


class NoNorm(nn.Module):
    """Only addition and activation: what a step costs without batch norm."""

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return _finish(x, residual, self.activation)


def _finish(y: Tensor, residual: Tensor | None, activation: str) -> Tensor:
    if residual is not None:
        y = y.add_(residual)
    if activation == "relu":
        return F.relu(y, inplace=True)
    if activation == "relu6":
        return F.relu6(y, inplace=True)
    return y


def our_norm(channels: int, activation: str) -> nn.Module:
    return batchnorm.BatchNorm2d(channels, activation=activation)


NORMS: dict[str, Factory] = {"ours": our_norm, "eager": TorchNorm, "none": NoNorm}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity or 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Factory):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, 3, stride), norm(outputs, "relu")
        self.conv2, self.bn2 = _conv(outputs, outputs, 3), norm(outputs, "relu")
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                _conv(inputs, outputs, 1, stride), norm(outputs, "identity")
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y = self.bn1(self.conv1(x))
        return self.bn2(self.conv2(y), shortcut)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; the projection has no activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, norm: Factory):
        super().__init__()
        hidden = inputs * expand
        self.expand = nn.Sequential()
        if expand != 1:
            self.expand = nn.Sequential(_conv(inputs, hidden, 1), norm(hidden, "relu6"))
        self.depthwise = nn.Sequential(
            _conv(hidden, hidden, 3, stride, groups=hidden), norm(hidden, "relu6")
        )
        self.project, self.bn = _conv(hidden, outputs, 1), norm(outputs, "identity")
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return self.bn(y, x) if self.residual else self.bn(y)


def _head(features: nn.Sequential, channels: int) -> nn.Sequential:
    features.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 100)])
    return features


def resnet18(norm: Factory) -> nn.Sequential:
    """He et al. 2016, 18 layers."""
    features = nn.Sequential(_conv(3, 64, 7, 2), norm(64, "relu"), nn.MaxPool2d(3, 2, 1))
    inputs = 64
    for outputs in (64, 128, 256, 512):
        features.append(BasicBlock(inputs, outputs, 1 if outputs == 64 else 2, norm))
        features.append(BasicBlock(outputs, outputs, 1, norm))
        inputs = outputs
    return _head(features, inputs)


def mobilenet_v2(norm: Factory) -> nn.Sequential:
    """Sandler et al. 2018, table 2."""
    stages = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip
    features = nn.Sequential(_conv(3, 32, 3, 2), norm(32, "relu6"))
    inputs = 32
    for expand, outputs, repeats, stride in stages:
        for index in range(repeats):
            first = stride if index == 0 else 1
            features.append(InvertedResidual(inputs, outputs, first, expand, norm))
            inputs = outputs
    features.extend([_conv(inputs, 1280, 1), norm(1280, "relu6")])
    return _head(features, 1280)


NETS = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}


def build(net: str, norm: str) -> nn.Sequential:
    """One of ``NETS`` with one of ``NORMS``."""
    return NETS[net](NORMS[norm])
