"""MobileNetV2: inverted residuals with linear bottlenecks."""

from torch import Tensor, nn

from ._parts import Classifier, Norm, building, conv_norm, eighths

__all__ = ["MobileNetV2"]

# Expansion, channels, blocks, stride of the first of them.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen, depthwise 3×3, narrow without activation; added to the input if shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, norm: Norm | None
    ) -> None:
        super().__init__()
        width = inputs * expansion
        widen = [] if expansion == 1 else [*conv_norm(inputs, width, 1, norm, nn.ReLU6)]
        self.body = nn.Sequential(
            *widen,
            *conv_norm(width, width, 3, norm, nn.ReLU6, stride=stride, groups=width),
            *conv_norm(width, outputs, 1, norm, None),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Halved in size if the stride is 2."""
        y: Tensor = self.body(x)

        return x + y if self.adds else y


class MobileNetV2(Classifier):
    """MobileNetV2; as published for 224×224 images by default.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        width: multiplies all channels.
        small: keep the size in the stem and the second stage, for 32×32 images.
        channels: of the images.
        classes: outputs.
        dropout: before the linear layer.

    Source: Sandler et al. 2018 (arXiv:1801.04381), table 2.

    Example:
        >>> net = MobileNetV2(torch.nn.BatchNorm2d, seed=0, width=0.25, small=True, classes=10)
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
        dropout: float = 0.2,
    ) -> None:
        with building():
            inputs, last = eighths(32 * width), eighths(1280 * max(1.0, width))
            stride = 1 if small else 2
            parts: list[nn.Module] = [conv_norm(channels, inputs, 3, norm, nn.ReLU6, stride=stride)]
            for stage, (expansion, outputs, blocks, stride) in enumerate(_STAGES):
                scaled = eighths(outputs * width)
                for place in range(blocks):
                    step = stride if place == 0 and not (small and stage == 1) else 1
                    parts.append(InvertedResidual(inputs, scaled, step, expansion, norm))
                    inputs = scaled
            parts.append(conv_norm(inputs, last, 1, norm, nn.ReLU6))
            head = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
            super().__init__(nn.Sequential(*parts), head, seed)
