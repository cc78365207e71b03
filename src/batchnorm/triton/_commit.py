"""``batch_norm_commit_``: one small launch instead of twenty."""

import torch
from torch import Tensor

from .._errors import ShapeError, explain
from ._commit_kernel import commit_kernel
from ._tensors import on_device_of

__all__ = ["batch_norm_commit_"]

_BLOCK = 1024


def batch_norm_commit_(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    num_nonfinite: Tensor,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    momentum: float | None,
) -> None:
    """Statistics enter memory; a repeated forward inside a backward leaves it alone."""
    # In a backward this is a compiled forward, repeated by activation checkpointing.
    if torch._C._current_graph_task_id() != -1:
        return

    vectors = (running_mean, running_var, num_nonfinite, mean, var)
    shape = running_mean.shape
    if any(t.shape != shape for t in vectors) or count.shape not in (shape, ()):
        raise ShapeError(
            explain(
                "batch_norm_commit_",
                f"buffers and statistics must have shape {tuple(shape)}",
                f"{[tuple(t.shape) for t in (*vectors, count)]}",
                "Pass one value per channel",
            )
        )
    if running_mean.numel() == 0:
        return

    channels = running_mean.numel()
    block = min(_BLOCK, 1 << (channels - 1).bit_length())
    buffers = [t.contiguous() for t in (running_mean, running_var)]
    nonfinite = num_nonfinite.contiguous()
    with on_device_of(running_mean):
        commit_kernel[(1,)](
            *(*buffers, num_batches_tracked, nonfinite),
            *(mean.contiguous(), var.contiguous(), count.contiguous()),
            channels,
            -(-channels // block),
            COUNTS=count.dim() > 0,
            MOMENTUM=momentum,
            BC=block,
        )
    for buffer, written in zip(
        (running_mean, running_var, num_nonfinite), (*buffers, nonfinite), strict=True
    ):
        if written is not buffer:
            buffer.copy_(written)
