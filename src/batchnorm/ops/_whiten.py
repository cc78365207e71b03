"""Normalise by a whitening matrix per group of channels: the batch's own, or a given one.

All in differentiable torch operators, so that one way serves every lane; scale, shift, residual,
mask and activation follow by the operator for given statistics.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from ..reference import accumulation_dtype
from ._commit import commit
from ._lanes import Lane
from ._layout import is_channels_last
from ._normalise import normalise_by
from ._whiten_root import newton_root, zca_root

__all__ = [
    "Whitening",
    "WhiteningMethod",
    "commit_covariance",
    "normalise_by_whitened_batch",
    "normalise_by_whitening",
]

WhiteningMethod = Literal["zca", "newton"]

# Products of one plane are worth while when it has this many positions per channel of a group.
_LARGE_PLANE = 2

_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor

# mean (C,), covariance (G, d, d) biased, count
Proposal = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Whitening:
    """How a covariance becomes a whitening matrix.

    Args:
        method: ``"zca"``, exact, by eigenvectors; ``"newton"``, about, by matrix products.
        group_size: d, the channels that are whitened together.
        eps: added to the variances.
        iterations: of Newton.
    """

    method: WhiteningMethod
    group_size: int
    eps: float
    iterations: int

    def root(self, covariance: Tensor) -> Tensor:
        """``(G, d, d)`` covariances to whitening matrices, in their dtype."""
        with _full_precision(covariance):
            if self.method == "zca":
                return zca_root(covariance, self.eps)

            return newton_root(covariance, self.eps, self.iterations)


def normalise_by_whitened_batch(
    lane: Lane,
    how: Whitening,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> tuple[Tensor, Proposal]:
    """Output, and the batch's mean, covariance and count, detached."""
    with _full_precision(input):
        rows = _rows(lane, input, how.group_size)
        centred, mean, count = _centre(rows, mask)
        covariance = (centred @ centred.mT).sum(0) / count.clamp(min=1)
        matrix = how.root(covariance)
        output = _finish(
            lane, matrix, centred, input, weight, bias, residual, mask, activation, slope
        )

    return output, (mean.flatten().detach(), covariance.detach(), count)


def normalise_by_whitening(
    lane: Lane,
    mean: Tensor,
    whitening: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    """Output by given mean ``(C,)`` and matrices ``(G, d, d)``, which are constants."""
    with _full_precision(input):
        rows = _rows(lane, input, whitening.shape[-1])
        # A copy, for the backward: a later commit may change the buffer.
        matrix = whitening.detach().to(rows.dtype, copy=True)
        centred = rows - mean.detach().to(rows.dtype).reshape(1, *rows.shape[1:3], 1)

        return _finish(
            lane, matrix, centred, input, weight, bias, residual, mask, activation, slope
        )


def commit_covariance(
    lane: Lane,
    how: Whitening,
    buffers: tuple[Tensor, Tensor, Tensor, Tensor],
    proposal: tuple[Tensor, Tensor],
    momentum: float | None,
) -> None:
    """Write a batch's covariance into the buffers, by the rules of a variance.

    Args:
        lane: the way of the call that made the proposal.
        how: gives the whitening matrix of memory.
        buffers: ``running_covariance`` and ``running_whitening`` ``(G, d, d)``; the counters
            ``num_batches_tracked ()`` and ``num_nonfinite (C,)`` before this batch, only read.
        proposal: ``covariance (G, d, d)``, biased, and ``count``, ``()`` or ``(C,)``.
        momentum: torch's weight of the new; None: the average of all batches.
    """
    memory, whitening, tracked, lost = buffers
    covariance, count = proposal
    entries = memory.view(-1)
    new = covariance.reshape(-1)
    counters = tracked.clone(), _per_entry(lost, memory)
    if count.dim():
        count = _per_entry(count, memory)
    nothing = torch.zeros_like(entries)
    commit(
        lane, (nothing, entries, *counters), (torch.zeros_like(new), new, count), momentum
    )  # as variances whose means are 0

    outside = lane is Lane.PLAIN and not _is_wrapped(memory) and not _is_wrapped(whitening)
    with torch.no_grad(), temporarily_clear_interpreter_stack() if outside else nullcontext():
        whitening.copy_(how.root(memory))


def _per_entry(values: Tensor, memory: Tensor) -> Tensor:
    """``(C,)``, the same in a whole group, for each entry of the matrices ``(G, d, d)``."""
    groups, size, _ = memory.shape
    each = values.view(groups, size)[:, :1]

    return each.expand(groups, size * size).reshape(-1).contiguous()


def _full_precision(input: Tensor) -> AbstractContextManager[Any]:
    """Autocast would narrow the products."""
    kind = input.device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()

    return torch.autocast(kind, enabled=False)


def _rows(lane: Lane, input: Tensor, size: int) -> Tensor:
    """``(N, C, *)`` as ``(B, G, d, positions)`` in the accumulation dtype.

    B is N where the samples' planes are large enough to be multiplied one by one; there nothing is
    moved. Otherwise B is 1.
    """
    samples, channels, *spatial = input.shape
    plane = math.prod(spatial)
    x = input.to(accumulation_dtype(input.dtype))
    apart = lane is not Lane.PLAIN and plane >= _LARGE_PLANE * size and input.is_contiguous()
    if apart:
        return x.reshape(samples, channels // size, size, plane)

    return x.movedim(1, 0).reshape(1, channels // size, size, samples * plane)


def _centre(rows: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Differences from the mean (0 where padded), the mean ``(1, G, d, 1)``, the count."""
    batches, _, _, positions = rows.shape
    if mask is None:
        real = None
        count = torch.full((), batches * positions, dtype=torch.int64, device=rows.device)
    else:
        real = mask.reshape(batches, 1, 1, positions)
        count = real.sum()
        rows = torch.where(real, rows, 0.0)
    divisor = count.clamp(min=1)

    # From near the mean: far from 0 its rounding would be that of a large number.
    near = rows.detach().sum((0, -1), keepdim=True) / divisor
    differences = rows - near
    if real is not None:
        differences = torch.where(real, differences, 0.0)
    # Added, not subtracted: the derivative of a difference costs a pass of its own.
    rest = differences.sum((0, -1), keepdim=True) / -divisor
    centred = differences + rest
    if real is not None:
        centred = torch.where(real, centred, 0.0)

    return centred, near - rest, count


def _finish(
    lane: Lane,
    matrix: Tensor,
    centred: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    """Whiten, scale, shift, add, activate; back to shape, layout and dtype of the input."""
    if residual is None and mask is None and activation == 0:
        groups, size, _ = matrix.shape
        if weight is not None:
            matrix = matrix * weight.to(matrix.dtype).reshape(groups, size, 1)
        y = matrix @ centred
        if bias is not None:
            y = y + bias.to(y.dtype).reshape(groups, size, 1)
        return _as_input(lane, y, input).to(input.dtype)

    x = _as_input(lane, matrix @ centred, input)
    if residual is not None:
        residual = residual.to(x.dtype)
    channels = x.shape[1]
    mean, var = x.new_zeros(channels), x.new_ones(channels)
    output = normalise_by(lane, mean, var, x, weight, bias, residual, mask, 0.0, activation, slope)

    return output.to(input.dtype)


def _as_input(lane: Lane, rows: Tensor, input: Tensor) -> Tensor:
    """``(B, G, d, positions)`` in shape and layout of the input."""
    samples, channels, *spatial = input.shape
    last = lane is not Lane.PLAIN and is_channels_last(input)
    if rows.shape[0] == samples and not last:
        return rows.reshape(input.shape)

    x = rows.reshape(channels, samples, *spatial).movedim(0, 1)
    if last:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)

    return x if lane is Lane.PLAIN else x.contiguous()
