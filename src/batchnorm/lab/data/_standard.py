"""Minus the mean, over the standard deviation, both of what trains."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["standardise"]


def standardise(train: Tensor, test: Tensor, lengths: Sequence[Tensor | None]) -> None:
    """In place; by channel of images, else by feature. What pads sequences counts not and stays 0.

    A feature that is constant, up to rounding, becomes 0.
    """
    by = (0, 2, 3) if train.ndim == 4 else (0,)
    known = train if lengths[0] is None else train[_within(train, lengths[0])]
    std, mean = torch.std_mean(known.double(), by, correction=0, keepdim=train.ndim == 4)
    std = torch.where(std > torch.finfo(torch.float32).eps * mean.abs(), std, 1.0)
    for part, length in zip((train, test), lengths, strict=True):
        part.sub_(mean.float()).div_(std.float())
        if length is not None:
            part.mul_(_within(part, length)[..., None])


def _within(x: Tensor, lengths: Tensor) -> Tensor:
    """``(n, L)``: where there are frames."""
    return torch.arange(x.shape[1]) < lengths[:, None]
