"""Statistics enter memory: ``batch_norm_commit_`` by the lane that fits."""

from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad

from .. import reference
from .._errors import explain
from ._lanes import Lane
from ._schemas import NAMESPACE

__all__ = ["commit"]

_commit_ = getattr(torch.ops, NAMESPACE).batch_norm_commit_.default
_increment_version = torch._C._increment_version
_functorch = torch._C._functorch
_EAGER = Lane.EAGER

# running_mean, running_var, num_batches_tracked, num_nonfinite; mean, var, count
Buffers = tuple[Tensor, Tensor, Tensor, Tensor]
Proposal = tuple[Tensor, Tensor, Tensor]


def commit(lane: Lane, buffers: Buffers, proposal: Proposal, momentum: float | None) -> None:
    """Write a batch's statistics into the buffers.

    Args:
        lane: the way of the call that made the proposal.
        buffers: ``running_mean``, ``running_var``, ``num_batches_tracked``, ``num_nonfinite``.
        proposal: ``mean``, ``var`` (biased) and ``count`` of the batch.
        momentum: torch's weight of the new; None: the average of all batches.
    """
    mean, var, count = proposal
    if mean.dtype != (dtype := buffers[0].dtype):
        proposal = mean.to(dtype), var.to(dtype), count

    if lane is _EAGER:
        _commit_(*buffers, *proposal, momentum)
        _increment_version(buffers)
    elif lane is Lane.COMPILED:
        _commit_(*buffers, *proposal, momentum)
    elif lane is Lane.EXPORTED:
        _commit_by_plain_torch(buffers, proposal, momentum)
    else:
        _commit_under_transform(buffers, proposal, momentum)


def _commit_by_plain_torch(buffers: Buffers, proposal: Proposal, momentum: float | None) -> None:
    in_groups = buffers[0].dim() == 2
    compute = reference.batch_norm_groups_commit if in_groups else reference.batch_norm_commit
    new = compute(*buffers, *proposal, momentum)
    for buffer, value in zip(buffers, new, strict=True):
        buffer.copy_(value)


def _commit_under_transform(buffers: Buffers, proposal: Proposal, momentum: float | None) -> None:
    """Values, not derivatives, enter memory: step out of the transforms if all are known there.

    Raises:
        RuntimeError: under vmap, where each example has statistics of its own.
    """
    if forward_ad._current_level >= 0:
        mean, var = (forward_ad.unpack_dual(value).primal for value in proposal[:2])
        proposal = mean, var, proposal[2]
    memory: Any = tuple(map(_unwrapped, buffers))
    values: Any = tuple(map(_unwrapped, proposal))

    if not any(map(_functorch.is_functorch_wrapped_tensor, (*memory, *values))):
        with temporarily_clear_interpreter_stack():
            _commit_by_plain_torch(memory, values, momentum)
    elif _functorch.is_batchedtensor(values[0]) and not _functorch.is_batchedtensor(memory[0]):
        raise RuntimeError(
            explain(
                "batch_norm",
                "under vmap each example proposes its own statistics, memory has room for one",
                "a layer in training mode inside vmap",
                "Use batchnorm.skip_updates(model), or pass buffers by torch.func.functional_call",
            )
        )
    else:
        _commit_by_plain_torch(buffers, proposal, momentum)


def _unwrapped(value: Tensor) -> Tensor:
    """The tensor below all levels of ``torch.func.grad`` and ``jvp``."""
    while _functorch.is_gradtrackingtensor(value):
        value = _functorch.get_unwrapped(value)

    return value
