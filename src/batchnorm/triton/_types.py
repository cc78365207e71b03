"""Triton's names of the dtypes that are chosen at launch."""

from typing import Any

import torch
import triton.language as tl

__all__ = ["ACCUMULATE", "index_type"]

ACCUMULATE: dict[torch.dtype, Any] = {torch.float32: tl.float32, torch.float64: tl.float64}

# Tiles reach beyond the end by less than twice: half of what 32 bits can count.
_WIDE = 2**30


def index_type(elements: int) -> Any:
    """Of offsets into a tensor of so many elements."""
    return tl.int64 if elements >= _WIDE else tl.int32
