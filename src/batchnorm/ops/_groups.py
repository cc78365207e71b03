"""Normalise groups of samples, each by its own or by given statistics, by the lane that fits."""

import torch
from torch import Tensor

from .. import reference
from ._group_functions import apply_groups_apply, apply_groups_train
from ._lanes import Lane, wants_grad
from ._schemas import NAMESPACE

__all__ = [
    "affine_rows",
    "merge_groups",
    "normalise_groups",
    "normalise_groups_by",
    "normalise_samples",
    "normalise_samples_by",
    "scale_samples",
]

_ops = getattr(torch.ops, NAMESPACE)
_train = _ops.batch_norm_groups_train.default
_merge = _ops.batch_norm_groups_merge.default
_apply = _ops.batch_norm_groups_apply.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd

# mean, var (biased), count
Proposal = tuple[Tensor, Tensor, Tensor]


def normalise_groups(
    lane: Lane,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    index: Tensor,
    groups: int,
    rows: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> tuple[Tensor, Proposal]:
    """Output and the groups' statistics ``(G, C)``, ``(G, C)``, ``(G,)``, detached.

    ``index`` is int64 ``(N,)``: the group of each sample, in ``[0, groups)``, in any order; a group
    may be empty, then its count, mean and var are 0. With ``rows``, int64 ``(N,)``, sample n is
    scaled and shifted by row ``rows[n]`` of weight and bias, which are ``(R, C)``; without they are
    ``(C,)``.
    """
    args = (
        *(input, weight, bias, residual, mask, index, groups, rows),
        *(eps, activation, slope),
    )
    output: Tensor
    if lane is not Lane.EAGER:
        train = _train if lane is Lane.COMPILED else reference.batch_norm_groups_train
        output, mean, var, _, count = train(*args)
        return output, (mean.detach(), var.detach(), count)

    if wants_grad(input, weight, bias, residual):
        statistics: list[Tensor] = []
        output = apply_groups_train(statistics, *args)
        mean, var, count = statistics
    else:
        with _BelowAutograd():
            output, mean, var, _, count = _train(*args)

    return output, (mean, var, count)


def merge_groups(lane: Lane, statistics: Proposal) -> Proposal:
    """Statistics of all groups together, ``(C,)``, ``(C,)``, ``()``; detached ones."""
    if lane is Lane.EAGER:
        with _BelowAutograd():
            mean, var, count = _merge(*statistics)
        return mean, var, count

    merge = _merge if lane is Lane.COMPILED else reference.batch_norm_groups_merge
    mean, var, count = merge(*statistics)
    return mean, var, count


def normalise_groups_by(
    lane: Lane,
    mean: Tensor,
    var: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    index: Tensor,
    rows: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> Tensor:
    """Output by given statistics ``(G, C)``, which are constants: no gradient flows into them.

    ``mean`` and ``var`` are of any float dtype; the others are as in ``normalise_groups``.
    """
    dtype = reference.accumulation_dtype(input.dtype)
    # New tensors: a later commit may change the buffers.
    mean, invstd = mean.detach().to(dtype, copy=True), (var.detach().to(dtype) + eps).rsqrt()
    args = (
        *(input, mean, invstd, weight, bias, residual, mask, index, rows),
        *(activation, slope),
    )
    output: Tensor
    if lane is not Lane.EAGER:
        apply = _apply if lane is Lane.COMPILED else reference.batch_norm_groups_apply
        output = apply(*args)
    elif wants_grad(input, weight, bias, residual):
        output = apply_groups_apply(*args)
    else:
        with _BelowAutograd():
            output = _apply(*args)

    return output


def normalise_samples(
    lane: Lane,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> tuple[Tensor, Proposal]:
    """``normalise_by_batch`` with a weight and bias of its own, ``(N, C)``, for each sample."""
    weight, bias, rows = affine_rows(input, weight, bias)
    index = input.new_zeros(input.shape[0], dtype=torch.int64)
    output, (mean, var, count) = normalise_groups(
        lane, input, weight, bias, residual, mask, index, 1, rows, eps, activation, slope
    )

    return output, (mean.squeeze(0), var.squeeze(0), count.squeeze(0))


def normalise_samples_by(
    lane: Lane,
    mean: Tensor,
    var: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> Tensor:
    """``normalise_by`` with a weight and bias of its own, ``(N, C)``, for each sample."""
    weight, bias, rows = affine_rows(input, weight, bias)
    index = input.new_zeros(input.shape[0], dtype=torch.int64)
    mean, var = mean.unsqueeze(0), var.unsqueeze(0)

    return normalise_groups_by(
        lane, mean, var, input, weight, bias, residual, mask, index, rows, eps, activation, slope
    )


def scale_samples(
    x_hat: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    """Scale, shift, add and activate a normalised ``(N, C)`` in torch's operators.

    Weight and bias are then as large as the input: as rows of a table, each would be a kernel call.
    """
    y = x_hat
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    if residual is not None:
        y = y + reference.select_real(residual, mask)

    return reference.select_real(reference.activate(y, activation, slope), mask)


def affine_rows(
    input: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Weight, bias and ``rows``, which are None unless one of the tables is ``(N, C)``."""
    if all(table is None or table.dim() == 1 for table in (weight, bias)):
        return weight, bias, None

    samples = input.shape[0]
    weight, bias = (
        table if table is None or table.dim() == 2 else table.expand(samples, -1)
        for table in (weight, bias)
    )

    return weight, bias, torch.arange(samples, device=input.device)
