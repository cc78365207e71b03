"""The Inception network of the batch normalization paper."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._parts import Classifier, Norm, building, conv_norm

__all__ = ["Inception"]


class Row(NamedTuple):
    """One module: channels of its four branches; no ``one`` means stride 2 and a bare pool."""

    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pool: str
    project: int


# Figure 5 of the paper.
_MODULES = {
    "3a": Row(64, (64, 64), (64, 96), "avg", 32),
    "3b": Row(64, (64, 96), (64, 96), "avg", 64),
    "3c": Row(0, (128, 160), (64, 96), "max", 0),
    "4a": Row(224, (64, 96), (96, 128), "avg", 128),
    "4b": Row(192, (96, 128), (96, 128), "avg", 128),
    "4c": Row(160, (128, 160), (128, 160), "avg", 96),
    "4d": Row(96, (128, 192), (160, 192), "avg", 96),
    "4e": Row(0, (128, 192), (192, 256), "max", 0),
    "5a": Row(352, (192, 320), (160, 224), "avg", 128),
    "5b": Row(352, (192, 320), (192, 224), "max", 128),
}
_DROPOUT = 0.4  # GoogLeNet's, before the last layer


class InceptionModule(nn.Module):
    """1×1, 3×3, two 3×3 and a pool beside each other, their channels put together."""

    def __init__(
        self, inputs: int, row: Row, norm: Norm | None, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        unit = partial(conv_norm, norm=norm, activation=activation)
        stride = 1 if row.one else 2
        (before, three), (first, double) = row.three, row.double
        branches = [
            nn.Sequential(
                *unit(inputs, before, 1),
                *unit(before, three, 3, stride=stride),
            ),
            nn.Sequential(
                *unit(inputs, first, 1),
                *unit(first, double, 3),
                *unit(double, double, 3, stride=stride),
            ),
            nn.Sequential(_pool(row.pool, stride)),
        ]
        if row.one:
            branches.insert(0, unit(inputs, row.one, 1))
            branches[-1].extend(unit(inputs, row.project, 1))
        self.branches = nn.ModuleList(branches)
        self.outputs = row.one + three + double + (row.project or inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Halved in size if there is no 1×1 branch."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def _pool(kind: str, stride: int) -> nn.Module:
    return nn.MaxPool2d(3, stride, 1) if kind == "max" else nn.AvgPool2d(3, stride, 1)


def _scaled(row: Row, width: float) -> Row:
    def scale(channels: int) -> int:
        return max(1, round(channels * width)) if channels else 0

    return Row(
        scale(row.one),
        (scale(row.three[0]), scale(row.three[1])),
        (scale(row.double[0]), scale(row.double[1])),
        row.pool,
        scale(row.project),
    )


class Inception(Classifier):
    """Inception with batch norm, without the side classifiers.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        width: multiplies all channels.
        small: a 3×3 stem without pools, for 32×32 images.
        channels: of the images.
        classes: outputs.
        activation: makes the layer after each convolution.
        modules: those of the figure that there are; all by default.
        dropout: 40 % before the last layer, as Inception had without batch norm.
        response: local response normalization after the stem's convolutions, likewise.

    Differs from the paper: the first convolution is an ordinary one, not depthwise separable.

    Source: Ioffe & Szegedy 2015, figure 5 (arXiv:1502.03167).

    Example:
        >>> net = Inception(torch.nn.BatchNorm2d, seed=0, width=0.125, small=True, classes=10)
        >>> net(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        width: float = 1.0,
        small: bool = False,
        channels: int = 3,
        classes: int = 1000,
        activation: Callable[[], nn.Module] = nn.ReLU,
        modules: Sequence[str] = tuple(_MODULES),
        dropout: bool = False,
        response: bool = False,
    ) -> None:
        with building():
            unit = partial(conv_norm, norm=norm, activation=activation)
            lrn = [nn.LocalResponseNorm(5)] if response else []
            first, inputs = max(1, round(64 * width)), max(1, round(192 * width))
            if small:
                parts = [*unit(channels, inputs, 3), *lrn]
            else:
                parts = [
                    *unit(channels, first, 7, stride=2),
                    nn.MaxPool2d(3, 2, 1),
                    *lrn,
                    *unit(first, first, 1),
                    *unit(first, inputs, 3),
                    *lrn,
                    nn.MaxPool2d(3, 2, 1),
                ]
            for name in modules:
                row = _scaled(_MODULES[name], width)
                module = InceptionModule(inputs, row, norm, activation)
                parts.append(module)
                inputs = module.outputs
            linear = nn.Linear(inputs, classes)
            head = nn.Sequential(nn.Dropout(_DROPOUT), linear) if dropout else linear
            super().__init__(nn.Sequential(*parts), head, seed)
