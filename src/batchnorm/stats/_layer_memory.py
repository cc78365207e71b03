"""What a layer uses in eval mode, row by row of its memory, and writing into it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layers._domain_memory import _DomainMemory
from ..layers.recurrent._memory import _StepMemory
from ._layers import statistics_of
from ._sights import is_whitened

__all__ = ["Memory", "count_row", "memory_of", "rows_by", "write_memory"]


class Memory(NamedTuple):
    """Copies, float64.

    Args:
        mean: ``(C,)``; ``(D, C)`` by domain; ``(T, C)`` by step.
        var: the same; ``(C/d, d, d)`` covariances of a whitened layer.
        known: bool ``()`` or ``(rows,)``; False: the row was never written, and is not used.
    """

    mean: Tensor
    var: Tensor
    known: Tensor


def rows_by(layer: Any) -> str:
    """What the rows of the layer's memory are; empty if there is one for all."""
    if isinstance(layer, _DomainMemory):
        return "domain"

    return "step" if isinstance(layer, _StepMemory) else ""


def memory_of(layer: Any) -> Memory:
    """What eval mode normalises by; a step without memory has that of the last one with some."""
    if isinstance(layer, _StepMemory):
        mean, var = (values.double() for values in layer._recall(0, layer.max_length))
    else:
        mean, var = statistics_of(layer)
    if is_whitened(layer):
        var = layer.running_covariance.detach().to(torch.float64, copy=True)
    known = mean.new_ones(mean.shape[:-1], dtype=torch.bool)
    if isinstance(layer, _DomainMemory):
        known = ~layer._lacks_batch()

    return Memory(mean, var, known)


@torch.no_grad()
def write_memory(layer: Any, row: int | None, mean: Tensor, var: Tensor) -> None:
    """Write a row, or all there is; from then on eval mode uses it."""
    names = ("running_mean", "running_covariance" if is_whitened(layer) else "running_var")
    for name, value in zip(names, (mean, var), strict=True):
        buffer = layer._buffers[name]
        (buffer if row is None else buffer[row]).copy_(value)
    if is_whitened(layer):
        covariance = layer.running_covariance
        layer.running_var.copy_(covariance.diagonal(dim1=1, dim2=2).reshape(-1))
        layer.running_whitening.copy_(layer._how.root(covariance))


def count_row(layer: Any, row: int, source: Memory) -> None:
    """A row that was written counts as trained, where eval mode would not use it otherwise."""
    if rows_by(layer) == "step" or not bool(source.known[row]):
        layer.num_batches_tracked[row].clamp_(min=1)
