"""Triton's names of the accumulation dtypes."""

import torch
import triton.language as tl

__all__ = ["ACCUMULATE"]

ACCUMULATE = {torch.float32: tl.float32, torch.float64: tl.float64}
