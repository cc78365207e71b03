"""Small helpers of the oracle: dtypes, broadcasting and reductions per channel."""

import torch
from torch import Tensor

__all__ = ["accumulation_dtype", "channel_count", "channel_sum", "per_channel", "select_real"]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for every narrower type: what statistics are kept in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """``(C,)`` or ``(N, C)`` with dimensions of size 1, to broadcast over ``like (N, C, *)``."""
    if values.dim() == 1:
        values = values.unsqueeze(0)

    return values.reshape(*values.shape, *(1,) * (like.dim() - 2))


def channel_sum(x: Tensor) -> Tensor:
    """Sum over everything but the channels: ``(N, C, *)`` to ``(C,)``."""
    return x.sum(dim=[0, *range(2, x.dim())])


def channel_count(x: Tensor, mask: Tensor | None) -> Tensor:
    """Real positions per channel, a 0-dim int64."""
    if mask is not None:
        return mask.sum()

    positions = x.shape[0]
    for size in x.shape[2:]:
        positions = positions * size

    return torch.full((), positions, dtype=torch.int64, device=x.device)


def select_real(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` with zeros at the padded positions; selected, so that a NaN there cannot leak."""
    if mask is None:
        return x

    return torch.where(mask.unsqueeze(1), x, torch.zeros((), dtype=x.dtype, device=x.device))
