"""Inputs changed at random while a network trains."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["relit", "shifted"]

SHARE = 8  # a shift reaches this part of the size


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images ``(N, C, H, W)``, each moved by up to an eighth of its size; zeros come in."""
    reach = max(1, x.shape[-1] // SHARE)
    padded = functional.pad(x, [reach] * 4)
    windows = padded.unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    down, right = torch.randint(2 * reach + 1, (2, len(x)), generator=generator)

    return windows[torch.arange(len(x)), :, down, right]


def relit(x: Tensor, generator: torch.Generator, *, strength: float) -> Tensor:
    """Images ``(N, C, H, W)`` in [0, 1] of another brightness and contrast, each by chance.

    Args:
        x: images.
        generator: of the chances.
        strength: brightness is changed by up to this, contrast by up to this share.
    """
    chances = torch.rand(2, len(x), 1, 1, 1, generator=generator)
    brighter, more = (strength * (2 * chance - 1) for chance in chances)
    mean = x.mean((1, 2, 3), keepdim=True)

    changed: Tensor = mean + (1 + more) * (x - mean) + brighter

    return changed.clamp(0, 1)
