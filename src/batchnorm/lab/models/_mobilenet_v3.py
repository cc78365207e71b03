"""MobileNetV3: inverted residuals with squeeze-and-excitation and hard swish."""

from typing import Literal

from torch import Tensor, nn

from ._parts import Classifier, Norm, building, conv_norm, eighths

__all__ = ["MobileNetV3"]

Row = tuple[int, int, int, bool, bool, int]

# Kernel, width inside, channels, squeeze, hard swish, stride.
_LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


class Squeeze(nn.Module):
    """Squeeze-and-excitation: each channel scaled by what all channels' means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = eighths(channels / 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inside, 1),
            nn.ReLU(),
            nn.Conv2d(inside, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape of ``x``."""
        gate: Tensor = self.gate(x)

        return x * gate


class Block(nn.Module):
    """Widen, depthwise, squeeze, narrow; added to the input if shapes agree."""

    def __init__(self, inputs: int, row: Row, scale: float, norm: Norm | None) -> None:
        super().__init__()
        kernel, width, outputs, squeeze, swish, stride = row
        width, outputs = eighths(width * scale), eighths(outputs * scale)
        act = nn.Hardswish if swish else nn.ReLU
        widen = [] if width == inputs else [*conv_norm(inputs, width, 1, norm, act)]
        self.body = nn.Sequential(
            *widen,
            *conv_norm(width, width, kernel, norm, act, stride=stride, groups=width),
            *([Squeeze(width)] if squeeze else []),
            *conv_norm(width, outputs, 1, norm, None),
        )
        self.adds = stride == 1 and inputs == outputs
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Halved in size if the stride is 2."""
        y: Tensor = self.body(x)

        return x + y if self.adds else y


class MobileNetV3(Classifier):
    """MobileNetV3, large or small; as published for 224×224 images by default.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        size: which of the two.
        width: multiplies all channels.
        stride: of the first convolution; 1 for 32×32 images.
        channels: of the images.
        classes: outputs.
        dropout: before the last linear layer.

    Source: Howard et al. 2019 (arXiv:1905.02244), tables 1 and 2.

    Example:
        >>> net = MobileNetV3(torch.nn.BatchNorm2d, seed=0, width=0.25, stride=1, classes=10)
        >>> net(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        size: Literal["large", "small"] = "small",
        width: float = 1.0,
        stride: int = 2,
        channels: int = 3,
        classes: int = 1000,
        dropout: float = 0.2,
    ) -> None:
        rows, hidden = (_LARGE, 1280) if size == "large" else (_SMALL, 1024)
        with building():
            inputs = eighths(16 * width)
            parts: list[nn.Module] = [
                conv_norm(channels, inputs, 3, norm, nn.Hardswish, stride=stride)
            ]
            for row in rows:
                block = Block(inputs, row, width, norm)
                parts.append(block)
                inputs = block.outputs
            last, hidden = 6 * inputs, eighths(hidden * width)
            parts.append(conv_norm(inputs, last, 1, norm, nn.Hardswish))
            head = nn.Sequential(
                nn.Linear(last, hidden),
                nn.Hardswish(),
                nn.Dropout(dropout),
                nn.Linear(hidden, classes),
            )
            super().__init__(nn.Sequential(*parts), head, seed)
