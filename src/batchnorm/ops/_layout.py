"""How results lie in memory: as the input does, when it is dense in one of two ways."""

import torch
from torch import Tensor

__all__ = ["empty_as", "is_channels_last", "laid_out_as"]


def is_channels_last(x: Tensor) -> bool:
    """Dense with the channels innermost, for any ``(N, C, *)`` of three or more dimensions."""
    return x.dim() >= 3 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def empty_as(x: Tensor) -> Tensor:
    """Uninitialised, shape and dtype of ``x``: channels-last if ``x`` is, else contiguous."""
    if not is_channels_last(x):
        return torch.empty_like(x, memory_format=torch.contiguous_format)

    last = x.movedim(1, -1)
    return torch.empty_like(last, memory_format=torch.contiguous_format).movedim(-1, 1)


def laid_out_as(values: Tensor, x: Tensor) -> Tensor:
    """``values`` in new memory, in the layout that ``empty_as(x)`` has."""
    return empty_as(x).copy_(values)
