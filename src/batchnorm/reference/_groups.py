"""Batch normalization of several groups of samples at once, each by statistics of its own.

``index`` says to which group a sample belongs, in any order; ``rows`` says which row of the affine
tables it is scaled and shifted by. Ghost, domain, conditional and instance normalization are these
functions with an index and rows of their own.
"""

import torch
from torch import Tensor

from ._backward import activation_backward, normalised, residual_grad
from ._commit import batch_norm_commit
from ._forward import batch_norm_apply
from ._shapes import accumulation_dtype, per_channel, select_real

__all__ = [
    "batch_norm_groups_apply",
    "batch_norm_groups_backward",
    "batch_norm_groups_commit",
    "batch_norm_groups_merge",
    "batch_norm_groups_stats",
    "batch_norm_groups_train",
]


def batch_norm_groups_stats(
    input: Tensor, mask: Tensor | None, index: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel in each group.

    Args:
        input: ``(N, C, *)``, any float dtype, any strides.
        mask: bool ``(N, *)``, True = real; None: everything is real.
        index: int64 ``(N,)``, the group of each sample, in ``[0, groups)``.
        groups: G, the number of groups.

    Returns:
        ``mean (G, C)`` and ``var (G, C)`` in float32 (float64 when input is), ``count`` int64
        ``(G,)``. All zero in a group that has nothing real.

    Numerics: as ``batch_norm_stats``; a sample's sums are added up in float64.

    Source: Ioffe & Szegedy 2015, Alg. 1 (arXiv:1502.03167), per group.
    """
    x = select_real(input.to(accumulation_dtype(input.dtype)), mask)
    count = _sum_by(_sample_count(input, mask), index, groups)
    divisor = count.clamp(min=1).to(x.dtype).unsqueeze(1)

    def average(values: Tensor) -> Tensor:
        return _sum_by(_sample_sum(values), index, groups) / divisor

    def less(mean: Tensor) -> Tensor:
        return select_real(x - per_channel(mean.index_select(0, index), x), mask)

    rough = average(x)
    mean = rough + average(less(rough))
    centred = less(mean)
    shift = average(centred)
    var = (average(centred * centred) - shift * shift).clamp(min=0)

    return mean, var, count


def batch_norm_groups_apply(
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    index: Tensor,
    rows: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    """``batch_norm_apply`` with each sample's own statistics, weight and bias.

    Args:
        input: ``(N, C, *)``.
        mean: ``(G, C)``, accumulation dtype.
        invstd: ``(G, C)``, accumulation dtype.
        weight: ``(C,)``, or ``(R, C)`` with rows; any float dtype; None: 1.
        bias: as weight; None: 0.
        residual: as input; None: 0.
        mask: bool ``(N, *)``; None: everything is real.
        index: int64 ``(N,)``, the group of each sample, in ``[0, G)``.
        rows: int64 ``(N,)``, the row of weight and bias of each sample, in ``[0, R)``.
        activation: code of ``Activation``.
        slope: of leaky_relu, or alpha of elu.

    Returns:
        Shape and dtype of input.
    """
    return batch_norm_apply(
        input,
        mean.index_select(0, index),
        invstd.index_select(0, index),
        _of_samples(weight, rows),
        _of_samples(bias, rows),
        residual,
        mask,
        activation,
        slope,
    )


def batch_norm_groups_train(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Measure and apply in one: normalise each group by its own statistics.

    Returns:
        ``output`` as input; ``mean``, ``var`` (biased) and ``invstd`` ``(G, C)``; ``count``
        ``(G,)``.
    """
    mean, var, count = batch_norm_groups_stats(input, mask, index, groups)
    invstd = (var + eps).rsqrt()
    output = batch_norm_groups_apply(
        input, mean, invstd, weight, bias, residual, mask, index, rows, activation, slope
    )

    return output, mean, var, invstd, count


def batch_norm_groups_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    count: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    index: Tensor,
    rows: Tensor | None,
    activation: int,
    slope: float,
    training: bool,
    need_grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Gradients of all groups.

    With w the weight of a sample's row and sums over the sample's group of ``count`` values:

    .. math:: dx = \mathrm{invstd}\,\Bigl(w g - \tfrac1m \sum w g
        - \hat x\,\tfrac1m \sum w g \hat x\Bigr)

    In evaluation (``training`` is False) only the first term.

    ``count`` is int64 ``(G,)``; the other tensors are as in ``batch_norm_groups_apply`` and
    ``batch_norm_backward_reduce``.

    Returns:
        ``grad_input`` as input, 0 where padded; ``grad_weight`` and ``grad_bias`` in the
        accumulation dtype, ``(C,)``, or ``(R, C)`` with rows; ``grad_residual`` as input, or empty.
    """
    mean, scale = mean.index_select(0, index), invstd.index_select(0, index)
    weights, biases = _of_samples(weight, rows), _of_samples(bias, rows)
    grad = activation_backward(
        grad_output, input, weights, biases, mean, scale, residual, output, mask, activation, slope
    )
    x_hat = normalised(input, mean, scale, mask)
    sum_dy, sum_dy_xhat = _sample_sum(grad), _sample_sum(grad * x_hat)

    factor = torch.ones_like(sum_dy) if weights is None else weights.to(grad.dtype)
    inner = grad * per_channel(factor, grad)
    if training:
        divisor = count.clamp(min=1).to(grad.dtype).unsqueeze(1)

        def average(sums: Tensor) -> Tensor:
            means = _sum_by(factor * sums, index, len(count)) / divisor
            return per_channel(means.index_select(0, index), grad)

        inner = inner - average(sum_dy) - x_hat * average(sum_dy_xhat)
    grad_input = select_real(inner * per_channel(scale, grad), mask).to(input.dtype)

    table = bias if weight is None else weight
    return (
        grad_input,
        _affine_grad(sum_dy_xhat, rows, table),
        _affine_grad(sum_dy, rows, table),
        residual_grad(grad, input, need_grad_residual),
    )


def batch_norm_groups_commit(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    num_nonfinite: Tensor,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    momentum: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``batch_norm_commit`` for each group; absent groups keep everything.

    Statistics and ``num_nonfinite`` are ``(G, C)``, ``num_batches_tracked`` is ``(G,)``, ``count``
    is ``(G, 1)`` or ``(G, C)``.
    """
    new_mean, new_var, _, new_nonfinite = batch_norm_commit(
        *(running_mean, running_var, num_batches_tracked.unsqueeze(1), num_nonfinite),
        *(mean, var, count, momentum),
    )

    return new_mean, new_var, num_batches_tracked + (count > 0).any(1), new_nonfinite


def batch_norm_groups_merge(
    mean: Tensor, var: Tensor, count: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of all groups together: ``(G, C)``, ``(G, C)``, ``(G,)`` to those of one batch.

    Numerics: in float64, by the groups' counts; exact up to the rounding of what is given.

    Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm".
    """
    total = count.sum()
    share = (_wide(count.to(mean.dtype)) / total.clamp(min=1)).unsqueeze(1)
    wide = _wide(mean)

    whole = (wide * share).sum(0)
    whole_var = ((_wide(var) + (wide - whole) ** 2) * share).sum(0)

    return whole.to(mean.dtype), whole_var.to(var.dtype), total


def _wide(values: Tensor) -> Tensor:
    """In float64 where the device has it."""
    return values if values.device.type == "mps" else values.double()


def _sample_sum(x: Tensor) -> Tensor:
    """``(N, C, *)`` to ``(N, C)``."""
    return x.flatten(2).sum(2) if x.dim() > 2 else x


def _sample_count(x: Tensor, mask: Tensor | None) -> Tensor:
    """Real positions of each sample, int64 ``(N,)``."""
    real = x.new_ones(x.shape[0], *x.shape[2:], dtype=torch.bool) if mask is None else mask

    return real.sum(list(range(1, real.dim()))) if real.dim() > 1 else real.long()


def _sum_by(values: Tensor, index: Tensor, groups: int) -> Tensor:
    """Sum of the samples of each group: ``(N, ...)`` to ``(G, ...)``."""
    wide = _wide(values) if values.dtype.is_floating_point else values
    sums = wide.new_zeros(groups, *values.shape[1:]).index_add(0, index, wide)

    return sums.to(values.dtype)


def _of_samples(table: Tensor | None, rows: Tensor | None) -> Tensor | None:
    """The row of each sample, ``(N, C)``; a table of one row stays ``(C,)``."""
    return table if table is None or rows is None else table.index_select(0, rows)


def _affine_grad(sums: Tensor, rows: Tensor | None, table: Tensor | None) -> Tensor:
    """Sums per sample ``(N, C)`` collected in the shape of the table."""
    if rows is None or table is None:
        return sums.sum(0)

    return _sum_by(sums, rows, table.shape[0])
