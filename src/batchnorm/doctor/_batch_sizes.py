"""How large the batches of a loader are, without drawing any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree

__all__ = ["BatchSizes", "batch_sizes", "length"]


@dataclass(frozen=True)
class BatchSizes:
    """Of one epoch.

    Args:
        usual: examples of all batches but the last.
        last: examples of the last.
        number: batches.
    """

    usual: int
    last: int
    number: int


def batch_sizes(loader: Any) -> BatchSizes | None:
    """What a data loader says of itself, or a list of batches shows; None if neither can be had.

    Example:
        >>> batch_sizes(torch.utils.data.DataLoader(range(10), batch_size=4))
        BatchSizes(usual=4, last=2, number=3)
    """
    if isinstance(loader, Sequence):
        sizes = [_examples(batch) for batch in loader]
        return BatchSizes(max(sizes), sizes[-1], len(sizes)) if sizes and all(sizes) else None

    sampler = getattr(loader, "batch_sampler", None)
    size, examples = getattr(sampler, "batch_size", None), getattr(sampler, "sampler", None)
    number = length(examples)
    if not isinstance(size, int) or size < 1 or number is None:
        return None
    full, rest = divmod(number, size)
    if rest == 0 or getattr(sampler, "drop_last", False):
        return BatchSizes(size, size, full) if full else None

    return BatchSizes(size if full else rest, rest, full + 1)


def length(sized: Any) -> int | None:
    """``len``, or None: a loader of a stream has the method and raises."""
    try:
        return len(sized)
    except (TypeError, NotImplementedError):
        return None


def _examples(batch: Any) -> int:
    leaves = (leaf for leaf in _pytree.tree_leaves(batch) if torch.is_tensor(leaf) and leaf.dim())
    first = next(leaves, None)

    return 0 if first is None else len(first)
