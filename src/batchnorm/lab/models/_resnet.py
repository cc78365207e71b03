"""Residual networks: basic, bottleneck and pre-activation blocks."""

from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from ._parts import Classifier, Norm, building, conv, conv_norm

__all__ = ["PreActivationResNet", "ResNet", "resnet18", "resnet50"]

Stem = Literal["large", "small"]
"""``"large"``: 7×7 stride 2 and a max pool, for 224×224. ``"small"``: 3×3, for 32×32."""


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; norm after each, activation after the addition."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm | None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_norm(inputs, width, 3, norm, stride=stride),
            *conv_norm(width, width, 3, norm, None),
        )
        self.shortcut = _shortcut(inputs, width, stride, norm)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Halved in size if the stride is 2."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))

        return y


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with four times the width; the stride in the 3×3, as is usual today."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm | None) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.body = nn.Sequential(
            *conv_norm(inputs, width, 1, norm),
            *conv_norm(width, width, 3, norm, stride=stride),
            *conv_norm(width, outputs, 1, norm, None),
        )
        self.shortcut = _shortcut(inputs, outputs, stride, norm)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Halved in size if the stride is 2."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))

        return y


class PreActivationBlock(nn.Module):
    """Norm and activation before each convolution; nothing after the addition."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm | None) -> None:
        super().__init__()
        self.before = nn.Sequential(_norm(inputs, norm), nn.ReLU())
        self.body = nn.Sequential(
            conv(inputs, width, 3, norm, stride=stride),
            _norm(width, norm),
            nn.ReLU(),
            conv(width, width, 3, norm),
        )
        changes = stride != 1 or inputs != width
        self.shortcut = conv(inputs, width, 1, norm, stride=stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Halved in size if the stride is 2."""
        active = self.before(x)
        kept = x if self.shortcut is None else self.shortcut(active)

        y: Tensor = kept + self.body(active)

        return y


class Scale(nn.Module):
    """Times a number that is learned, zero at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """In the shape of `x`."""
        return self.weight * x


def _norm(channels: int, norm: Norm | None) -> nn.Module:
    return nn.Identity() if norm is None else norm(channels)


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm | None) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()

    return conv_norm(inputs, outputs, 1, norm, None, stride=stride)


def _stem(channels: int, width: int, stem: Stem, norm: Norm | None, bare: bool) -> nn.Sequential:
    kernel, stride = (7, 2) if stem == "large" else (3, 1)
    if bare:
        first = nn.Sequential(conv(channels, width, kernel, norm, stride=stride))
    else:
        first = conv_norm(channels, width, kernel, norm, stride=stride)
    if stem == "large":
        first.append(nn.MaxPool2d(3, 2, 1))

    return first


def _stages(
    block: type[BasicBlock | Bottleneck | PreActivationBlock],
    depths: Sequence[int],
    width: int,
    norm: Norm | None,
) -> tuple[list[nn.Sequential], int]:
    stages, inputs = [], width
    for stage, depth in enumerate(depths):
        blocks = []
        for place in range(depth):
            stride = 2 if stage > 0 and place == 0 else 1
            blocks.append(block(inputs, width << stage, stride, norm))
            inputs = (width << stage) * block.expansion
        stages.append(nn.Sequential(*blocks))

    return stages, inputs


class ResNet(Classifier):
    """Residual network with the activation after the addition.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        depths: blocks per stage; each stage but the first halves the size.
        width: channels of the first stage, doubled by each further one.
        bottleneck: the block of 1×1, 3×3, 1×1.
        stem: for large or small images.
        channels: of the images.
        classes: outputs.

    Source: He et al. 2016 (arXiv:1512.03385).

    Example:
        >>> net = ResNet(torch.nn.BatchNorm2d, seed=0, depths=(1, 1), width=8, classes=10)
        >>> net(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        depths: Sequence[int] = (3, 3, 3),
        width: int = 16,
        bottleneck: bool = False,
        stem: Stem = "small",
        channels: int = 3,
        classes: int = 10,
    ) -> None:
        with building():
            first = _stem(channels, width, stem, norm, bare=False)
            block = Bottleneck if bottleneck else BasicBlock
            stages, outputs = _stages(block, depths, width, norm)
            features = nn.Sequential(*chain([first], stages))
            super().__init__(features, nn.Linear(outputs, classes), seed)


class PreActivationResNet(Classifier):
    """Residual network with norm and activation before each convolution.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        depths: blocks per stage; each stage but the first halves the size.
        width: channels of the first stage, doubled by each further one.
        stem: for large or small images.
        channels: of the images.
        classes: outputs.
        skip_init: each block's branch is scaled by a number that starts at zero.

    Source: He et al. 2016 (arXiv:1603.05027); De & Smith 2020 (arXiv:2002.10444) for ``skip_init``.
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        depths: Sequence[int] = (3, 3, 3),
        width: int = 16,
        stem: Stem = "small",
        channels: int = 3,
        classes: int = 10,
        skip_init: bool = False,
    ) -> None:
        with building():
            first = _stem(channels, width, stem, norm, bare=True)
            stages, outputs = _stages(PreActivationBlock, depths, width, norm)
            for block in chain(*stages):
                if skip_init and isinstance(block, PreActivationBlock):
                    block.body.append(Scale())
            last = nn.Sequential(_norm(outputs, norm), nn.ReLU())
            features = nn.Sequential(*chain([first], stages, [last]))
            super().__init__(features, nn.Linear(outputs, classes), seed)


def resnet18(norm: Norm | None, *, seed: int, classes: int = 1000) -> ResNet:
    """ResNet-18 for 224×224 images; 11.7 million parameters."""
    return ResNet(norm, seed=seed, depths=(2, 2, 2, 2), width=64, stem="large", classes=classes)


def resnet50(norm: Norm | None, *, seed: int, classes: int = 1000) -> ResNet:
    """ResNet-50 for 224×224 images; 25.6 million parameters."""
    return ResNet(
        norm,
        seed=seed,
        depths=(3, 4, 6, 3),
        width=64,
        bottleneck=True,
        stem="large",
        classes=classes,
    )
