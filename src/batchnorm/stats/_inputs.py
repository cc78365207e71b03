"""What enters a layer: its input and mask, from any way of calling it."""

import inspect
from typing import Any

from torch import Tensor, nn

from .._types import BatchStats
from ..functional import batch_norm_stats
from ..ops import broadcast_mask

__all__ = ["input_and_mask", "measure"]


def input_and_mask(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """The first argument of a call, and the one called ``mask``."""
    if len(args) == 1 and not kwargs:
        return args[0], None

    values = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
    input: Tensor = next(iter(values.values()))
    mask: Tensor | None = values.get("mask")

    return input, mask


def measure(input: Tensor, mask: Tensor | None, who: str) -> BatchStats:
    """Count, mean and variance of an input, by its mask."""
    return batch_norm_stats(input, None if mask is None else broadcast_mask(who, mask, input))
