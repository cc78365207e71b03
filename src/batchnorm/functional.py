"""Stateless batch normalization: tensors in, output and proposed statistics out.

Nothing here has memory, so everything works under ``torch.func`` and ``torch.compile``. Which way
a call takes (kernel, compiled operator or plain torch) is written in ``batchnorm.ops._lanes``.
"""

import torch
from torch import Tensor

from . import reference
from ._errors import ShapeError, explain
from ._types import Activation, ActivationName, BatchStats
from .ops import (
    Lane,
    broadcast_mask,
    check_affine,
    check_inplace,
    check_input,
    check_number,
    check_per_channel,
    check_residual,
    check_slope,
    choose_lane,
    normalise_by,
    normalise_by_batch,
    wants_grad,
)

__all__ = ["batch_norm", "batch_norm_stats", "update_running"]


def batch_norm(
    input: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    stats: BatchStats | None = None,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float = 1e-5,
    activation: ActivationName | Activation = "identity",
    slope: float | None = None,
    inplace: bool = False,
) -> tuple[Tensor, BatchStats]:
    r"""Normalise each channel, scale, shift, add the residual, activate.

    .. math:: y = \mathrm{act}\Bigl(\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta
        + r\Bigr)

    Args:
        input: ``(N, C, *)``, float16, bfloat16, float32 or float64, any strides.
        weight: γ, ``(C,)``, or ``(N, C)`` with one row per sample, any float dtype; None: 1.
        bias: β, likewise; None: 0.
        stats: normalise by these; None: by the batch's own. Gradients flow into them if their
            mean or variance requires grad.
        residual: r, shape and dtype of ``input``.
        mask: bool, True = real; ``(N,)`` or ``(N, *)``. Padded positions enter no statistic, come
            out as 0 and receive no gradient, whatever they hold.
        eps: added to the variance; positive, or 0 with ``stats``.
        activation: one of ``ActivationName``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        inplace: permit to overwrite ``input``, which then must not be used any more. With
            gradients only for no activation or leaky_relu with slope > 0, without residual, and
            \|weight\| ≥ 1e-3 (more when bias is large); no double backward.

    Returns:
        The output, in shape, dtype and layout of ``input``, and the batch's statistics: proposed
        for ``update_running`` or a merge, float32 (float64 for float64 input), detached. With
        ``stats`` given, these again.

    Raises:
        ValueError: a wrong shape or a value out of range.
        TypeError: a wrong dtype.
        RuntimeError: a wrong device, or an input that cannot be overwritten.

    Costs: one read and one write of the input where a channel fits the cache. What is kept for
        backward is listed in ``batchnorm.ops._saving``.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167).

    Example:
        >>> output, stats = batch_norm(torch.tensor([[1.0], [3.0]]), activation="relu")
        >>> stats.mean, stats.var
        (tensor([2.]), tensor([1.]))
    """
    who = "batch_norm"
    code = Activation.parse(activation, who)
    slope = check_slope(who, code, slope)
    check_number(who, "eps", eps, zero=stats is not None)
    check_input(who, input)
    check_affine(who, "weight", weight, input)
    check_affine(who, "bias", bias, input)
    if residual is not None:
        check_residual(who, residual, input)
    if mask is not None:
        mask = broadcast_mask(who, mask, input)
    if stats is not None:
        check_per_channel(who, "stats.mean", stats.mean, input)
        check_per_channel(who, "stats.var", stats.var, input)
    lane = choose_lane(input)
    if inplace and lane is Lane.EAGER:
        needs_grad = wants_grad(input, weight, bias, residual)
        check_inplace(who, input, weight, bias, residual, code, slope, needs_grad)

    args = (input, weight, bias, residual, mask, eps, int(code), slope)
    if stats is None:
        output, (mean, var, count) = normalise_by_batch(lane, *args, inplace)
        return output, BatchStats(count, mean, var)

    if torch.is_grad_enabled() and (stats.mean.requires_grad or stats.var.requires_grad):
        return reference.batch_norm_eval(input, stats.mean, stats.var, *args[1:]), stats

    return normalise_by(lane, stats.mean, stats.var, *args, inplace), stats


def batch_norm_stats(input: Tensor, mask: Tensor | None = None) -> BatchStats:
    """Count, mean and biased variance of each channel, detached.

    Args:
        input: ``(N, C, *)``, float16, bfloat16, float32 or float64, any strides.
        mask: bool, True = real; ``(N,)`` or ``(N, *)``.

    Returns:
        ``count`` int64 ``()``; ``mean (C,)`` in units of x and ``var (C,)`` in units of x²,
        biased; float32, or float64 for float64 input.

    Raises:
        ValueError: a wrong shape.
        TypeError: a wrong dtype.

    Numerics: never E[x²] - E[x]²; the variance is not negative.

    Source: Ioffe & Szegedy 2015, Alg. 1 (arXiv:1502.03167).

    Example:
        >>> batch_norm_stats(torch.tensor([[1.0], [3.0]])).var
        tensor([1.])
    """
    check_input("batch_norm_stats", input)
    if mask is not None:
        mask = broadcast_mask("batch_norm_stats", mask, input)

    input = input.detach()
    by_operator = choose_lane(input) in (Lane.EAGER, Lane.COMPILED)
    measure = torch.ops.batchnorm.batch_norm_stats if by_operator else reference.batch_norm_stats
    mean, var, count = measure(input, mask)

    return BatchStats(count, mean.detach(), var.detach())


def update_running(
    running_mean: Tensor, running_var: Tensor, stats: BatchStats, momentum: float
) -> tuple[Tensor, Tensor]:
    r"""Running statistics after a batch; the pure form of what a layer commits.

    .. math:: r \leftarrow (1 - m)\,r + m\,\mathrm{new}

    Args:
        running_mean: ``(C,)``, float.
        running_var: ``(C,)``, float.
        stats: of the batch; its variance enters unbiased, as in torch.
        momentum: torch's weight of the new. Keras's and Flax's weigh the old.

    Returns:
        New ``running_mean`` and ``running_var``. A channel with fewer than two values, or with a
        mean or variance that is not finite, keeps its old ones.

    Raises:
        ValueError: momentum is negative or NaN, or the shapes do not fit.

    Example:
        >>> stats = batch_norm_stats(torch.tensor([[1.0], [3.0]]))
        >>> update_running(torch.zeros(1), torch.ones(1), stats, momentum=0.5)
        (tensor([1.]), tensor([1.5000]))
    """
    check_number("update_running", "momentum", momentum, zero=True)
    if not running_mean.shape == running_var.shape == stats.mean.shape == stats.var.shape:
        raise ShapeError(
            explain(
                "update_running",
                "running and batch statistics must have the same shape",
                f"running_mean {tuple(running_mean.shape)}, running_var "
                f"{tuple(running_var.shape)}, mean {tuple(stats.mean.shape)}",
                "Pass statistics of the same channels",
            )
        )

    counter = torch.zeros((), dtype=torch.int64, device=running_mean.device)
    mean, var, _, _ = reference.batch_norm_commit(
        running_mean, running_var, counter, counter, stats.mean, stats.var, stats.count, momentum
    )

    return mean, var
