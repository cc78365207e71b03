"""Inputs changed at random while a network trains."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["shifted"]

SHARE = 8  # a shift reaches this part of the size


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images ``(N, C, H, W)``, each moved by up to an eighth of its size; zeros come in."""
    reach = max(1, x.shape[-1] // SHARE)
    padded = functional.pad(x, [reach] * 4)
    windows = padded.unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    down, right = torch.randint(2 * reach + 1, (2, len(x)), generator=generator)

    return windows[torch.arange(len(x)), :, down, right]
