"""Batches of the user's data, cut anew."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["endless", "has_examples", "rebatched"]


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """One pass after another."""
    while True:
        yield from batches


def rebatched(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The same examples in the same order, `size` at a time; what is left at the end is dropped.

    Example:
        >>> pairs = [(torch.arange(3), torch.zeros(3)), (torch.arange(3, 6), torch.ones(3))]
        >>> [x.tolist() for x, _ in rebatched(pairs, 2)]
        [[0, 1], [2, 3], [4, 5]]
    """
    held: list[tuple[Tensor, Tensor]] = []
    count = 0
    for batch in batches:
        held.append((batch[0], batch[1]))
        count += len(batch[1])
        if count < size:
            continue
        whole = tuple(torch.cat(parts) for parts in zip(*held, strict=True))
        kept = count // size * size
        yield from zip(*(part[:kept].split(size) for part in whole), strict=True)
        held, count = [(whole[0][kept:], whole[1][kept:])], count - kept


def has_examples(batches: Iterable[Any], count: int) -> bool:
    """Whether there are so many; no more are read."""
    sizes = (len(y) for _, y in batches)
    total = 0

    return any((total := total + size) >= count for size in sizes)
