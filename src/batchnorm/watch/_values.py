"""What is kept of one tensor: statistics per channel, the spread of its examples, a sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor

from .._types import BatchStats
from ..functional import batch_norm_stats

__all__ = ["Values", "first_tensor", "take", "thinned"]

_ROWS = 4096


@dataclass
class Values:
    """One side of a place in the model.

    Args:
        stats: count, mean and biased variance of each channel.
        spread: ``(C,)``: ``spread / count²`` is the squared standard error of the mean, with the
            examples as independent draws; None: not measured.
        sample: ``(S,)`` float32: values spread evenly over the tensor.
        rows: ``(R, C)``: positions spread evenly over the tensor; None: not wanted.
    """

    stats: BatchStats
    spread: Tensor | None
    sample: Tensor
    rows: Tensor | None = None

    def merge(self, other: Values) -> Values:
        """Both together; samples stay the first one's."""
        spread = None
        if self.spread is not None and other.spread is not None:
            spread = self.spread + other.spread

        return Values(self.stats.merge(other.stats), spread, self.sample, self.rows)


def first_tensor(value: Any) -> Tensor | None:
    """The tensor itself, or the first one of a tuple (of a ``PackedSequence`` its rows)."""
    if isinstance(value, (tuple, list)):
        value = next((item for item in value if isinstance(item, Tensor)), None)

    return value if isinstance(value, Tensor) and value.is_floating_point() else None


def take(
    x: Tensor, mask: Tensor | None, size: int, *, errors: bool, rows: bool = False
) -> Values | None:
    """Measure a tensor ``(N, C, *)``; None where it is empty.

    Args:
        x: any strides; only read.
        mask: bool ``(N,)`` or ``(N, *)``, True = real.
        size: of the sample, at most.
        errors: whether the spread is measured, which reads the tensor once more.
        rows: whether whole positions are kept.
    """
    x = x.detach()
    if x.dim() < 2:
        x = x.reshape(-1, 1)
    if x.numel() == 0 or (mask is not None and not bool(mask.any())):
        return None

    stats = batch_norm_stats(x, mask)
    spread = _spread(x, mask, stats.mean) if errors else None

    real = x if mask is None else _real(x, mask)

    return Values(stats, spread, thinned(real, size), _rows(real) if rows else None)


def thinned(x: Tensor, size: int) -> Tensor:
    """At most ``size`` values, at equal distances in memory; ``(S,)`` float32, a copy."""
    strides = x.stride()
    by_stride = sorted(range(x.dim()), key=lambda axis: -strides[axis])
    flat = x.detach().permute(by_stride).flatten()
    total = flat.numel()
    step = max(1, -(-total // size))
    # With a common divisor the same few positions of every image would be hit.
    while step > 1 and gcd(step, total) != 1:
        step += 1

    return flat[::step].to(torch.float32, copy=True)


def _spread(x: Tensor, mask: Tensor | None, mean: Tensor) -> Tensor:
    examples = len(x)
    if examples < 2:
        return torch.full_like(mean, torch.nan)

    rows = x.flatten(2) if x.dim() > 2 else x[..., None]
    if mask is None:
        sums = (rows.mean(2, dtype=mean.dtype) - mean) * rows.shape[2]
    else:
        real = mask.reshape(examples, 1, -1)
        sums = torch.where(real, rows - mean[:, None], 0.0).sum(2, dtype=mean.dtype)

    return sums.square().sum(0) * (examples / (examples - 1))


def _rows(x: Tensor) -> Tensor:
    every = x.movedim(1, -1).reshape(-1, x.shape[1])
    step = -(-len(every) // max(_ROWS, 4 * x.shape[1]))

    return every[::step].to(torch.float32, copy=True)


def _real(x: Tensor, mask: Tensor) -> Tensor:
    return x[mask] if mask.dim() == 1 else x.movedim(1, -1)[mask]
