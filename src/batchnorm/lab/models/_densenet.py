"""DenseNet-BC: each layer reads what all layers before it in its block have made."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ._parts import Classifier, Norm, building, conv

__all__ = ["DenseNet", "densenet121"]

_BOTTLENECK = 4


class DenseLayer(nn.Module):
    """Norm, activation, 1×1; norm, activation, 3×3; appended to the input."""

    def __init__(self, inputs: int, growth: int, norm: Norm | None) -> None:
        super().__init__()
        width = _BOTTLENECK * growth
        self.body = nn.Sequential(
            *_before(inputs, norm),
            conv(inputs, width, 1, norm),
            *_before(width, norm),
            conv(width, growth, 3, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``growth`` more channels."""
        return torch.cat([x, self.body(x)], 1)


def _before(channels: int, norm: Norm | None) -> list[nn.Module]:
    return [*([] if norm is None else [norm(channels)]), nn.ReLU()]


class DenseNet(Classifier):
    """DenseNet-BC: bottlenecks, and channels halved between blocks.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        blocks: layers per block; the size is halved between blocks.
        growth: channels that each layer adds.
        stem: ``"large"``: 7×7 stride 2 and a max pool, for 224×224; ``"small"``: 3×3, for 32×32.
        channels: of the images.
        classes: outputs.

    Source: Huang et al. 2017 (arXiv:1608.06993).

    Example:
        >>> net = DenseNet(torch.nn.BatchNorm2d, seed=0, blocks=(2, 2), growth=4)
        >>> net(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        blocks: Sequence[int] = (6, 6, 6),
        growth: int = 12,
        stem: Literal["large", "small"] = "small",
        channels: int = 3,
        classes: int = 10,
    ) -> None:
        width = 2 * growth
        with building():
            parts: list[nn.Module] = []
            if stem == "large":
                parts = [conv(channels, width, 7, norm, stride=2), *_before(width, norm)]
                parts.append(nn.MaxPool2d(3, 2, 1))
            else:
                parts = [conv(channels, width, 3, norm)]
            for place, layers in enumerate(blocks):
                if place:
                    parts += [*_before(width, norm), conv(width, width // 2, 1, norm)]
                    parts.append(nn.AvgPool2d(2))
                    width //= 2
                for _ in range(layers):
                    parts.append(DenseLayer(width, growth, norm))
                    width += growth
            parts += _before(width, norm)
            super().__init__(nn.Sequential(*parts), nn.Linear(width, classes), seed)


def densenet121(norm: Norm | None, *, seed: int, classes: int = 1000) -> DenseNet:
    """DenseNet-121 for 224×224 images; 8.0 million parameters."""
    return DenseNet(
        norm, seed=seed, blocks=(6, 12, 24, 16), growth=32, stem="large", classes=classes
    )
