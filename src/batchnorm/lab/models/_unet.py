"""U-Net: down, up, and what was seen on the way down beside what comes up."""

import torch
from torch import Tensor, nn

from ._parts import Norm, building, conv_norm, start

__all__ = ["UNet"]


class UNet(nn.Module):
    """U-Net with padded convolutions and a norm after each of them.

    Args:
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        width: channels of the first level, doubled by each further one.
        levels: how often the size is halved.
        channels: of the images.
        classes: outputs per position.

    Source: Ronneberger et al. 2015 (arXiv:1505.04597).

    Example:
        >>> net = UNet(torch.nn.BatchNorm2d, seed=0, width=4, levels=2)
        >>> net(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 2, 16, 16])
    """

    def __init__(
        self,
        norm: Norm | None,
        *,
        seed: int,
        width: int = 64,
        levels: int = 4,
        channels: int = 3,
        classes: int = 2,
    ) -> None:
        super().__init__()
        with building():
            widths = [width << level for level in range(levels + 1)]
            self.down = nn.ModuleList(
                _double(inputs, outputs, norm)
                for inputs, outputs in zip([channels, *widths], widths, strict=False)
            )
            self.pool = nn.MaxPool2d(2)
            upwards = widths[:0:-1]
            self.grow = nn.ModuleList(nn.ConvTranspose2d(w, w // 2, 2, 2) for w in upwards)
            self.up = nn.ModuleList(_double(w, w // 2, norm) for w in upwards)
            self.head = nn.Conv2d(width, classes, 1)
        start(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``; H and W multiples of 2 to the power of ``levels``."""
        seen: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else self.pool(x))
            seen.append(x)
        for grow, up, beside in zip(self.grow, self.up, seen[-2::-1], strict=True):
            x = up(torch.cat([beside, grow(x)], 1))
        logits: Tensor = self.head(x)

        return logits


def _double(inputs: int, outputs: int, norm: Norm | None) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm(inputs, outputs, 3, norm), *conv_norm(outputs, outputs, 3, norm)
    )
