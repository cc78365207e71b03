"""The small convolutional network of the experiments."""

from collections.abc import Callable, Sequence

from torch import nn

from ._mlp import Placement
from ._parts import Classifier, Norm, building, conv

__all__ = ["ConvNet"]


class ConvNet(Classifier):
    """3×3 convolutions, each with or without a norm before or after its activation.

    Every convolution but the first halves the size.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        channels: of the images.
        classes: outputs.
        widths: channels of each convolution.
        activation: makes the layer after each.
        placement: of the norm: before or after the activation.

    Example:
        >>> net = ConvNet(torch.nn.BatchNorm2d, seed=0, channels=1, classes=10)
        >>> net(torch.randn(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        channels: int,
        classes: int,
        widths: Sequence[int] = (16, 32, 64),
        activation: Callable[[], nn.Module] = nn.ReLU,
        placement: Placement = "before",
    ) -> None:
        with building():
            parts: list[nn.Module] = []
            for place, width in enumerate(widths):
                inputs = widths[place - 1] if place else channels
                parts.append(conv(inputs, width, 3, norm, stride=2 if place else 1))
                after = [activation()]
                if norm is not None:
                    after.insert(0 if placement == "before" else 1, norm(width))
                parts += after
            super().__init__(nn.Sequential(*parts), nn.Linear(widths[-1], classes), seed)
