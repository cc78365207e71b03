"""Forward operators: allocate, cut, launch."""

from typing import Any

import torch
from torch import Tensor

from ._forward_kernels import apply_kernel, merge_kernel, stats_kernel, train_kernel
from ._plan import cut
from ._tensors import View, accumulation_dtype, alike, bytes_of, check, dense, on_device_of
from ._types import ACCUMULATE

__all__ = [
    "batch_norm_apply",
    "batch_norm_eval",
    "batch_norm_eval_",
    "batch_norm_stats",
    "batch_norm_train",
    "batch_norm_train_",
]

# mean, var, invstd, count
Statistics = tuple[Tensor, Tensor, Tensor, Tensor]


def batch_norm_stats(input: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count of each channel."""
    check("batch_norm_stats", input, (), (), mask)
    with on_device_of(input):
        mean, var, _, count = _measure(dense(input), bytes_of(mask), 0.0)

    return mean, var, count


def batch_norm_apply(
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    """``act((x - mean) * invstd * weight + bias + residual)``, 0 where padded."""
    check("batch_norm_apply", input, (mean, invstd, weight, bias), (residual,), mask)
    view = dense(input)
    output = torch.empty_like(view.tensor)
    extras = alike(residual, view.tensor), bytes_of(mask)
    with on_device_of(input):
        _apply(view, mean, invstd, weight, bias, *extras, output, None, activation, slope)

    return output


def batch_norm_eval(input: Tensor, running_mean: Tensor, running_var: Tensor, *args: Any) -> Tensor:
    """Normalise by given mean and variance."""
    view = dense(input)
    output = torch.empty_like(view.tensor)
    _evaluate("batch_norm_eval", view, output, running_mean, running_var, *args)

    return output


def batch_norm_eval_(input: Tensor, running_mean: Tensor, running_var: Tensor, *args: Any) -> None:
    """The same, over the input."""
    view = dense(input)
    _evaluate("batch_norm_eval_", view, view.tensor, running_mean, running_var, *args)
    if view.tensor is not input:
        input.copy_(view.tensor)


def _evaluate(
    who: str,
    view: View,
    output: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> None:
    x = view.tensor
    check(who, x, (running_mean, running_var, weight, bias), (residual,), mask)
    extras = alike(residual, x), bytes_of(mask)
    with on_device_of(x):
        _apply(
            view, running_mean, running_var, weight, bias, *extras, output, eps, activation, slope
        )


def batch_norm_train(input: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Measure and apply in one."""
    view = dense(input)
    output = torch.empty_like(view.tensor)
    statistics = _train("batch_norm_train", view, output, *args)

    return output, *statistics


def batch_norm_train_(input: Tensor, *args: Any) -> Statistics:
    """The same, over the input."""
    view = dense(input)
    statistics = _train("batch_norm_train_", view, view.tensor, *args)
    if view.tensor is not input:
        input.copy_(view.tensor)

    return statistics


def _train(
    who: str,
    view: View,
    output: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> Statistics:
    x = view.tensor
    check(who, x, (weight, bias), (residual,), mask)
    residual, mask = alike(residual, x), bytes_of(mask)
    if x.numel() == 0:
        return _nothing(view, eps)

    plan = cut(view.n, view.channels, view.space, x.dtype, whole=True)
    with on_device_of(x):
        if plan.splits > 1:
            statistics = _measure(view, mask, eps)
            mean, _, invstd, _ = statistics
            _apply(
                view, mean, invstd, weight, bias, residual, mask, output, None, activation, slope
            )
            return statistics

        mean, var, invstd, count = statistics = _room(view)
        train_kernel[(plan.programs,)](
            *(x, weight, bias, residual, mask, output, mean, var, invstd, count),
            *plan.shape_args,
            EPS=eps,
            CODE=int(activation),
            SLOPE=slope,
            ON_CHIP=plan.on_chip,
            **plan.meta,
        )

    return statistics


def _room(view: View) -> Statistics:
    mean, var, invstd = (view.channel_values() for _ in range(3))
    return mean, var, invstd, view.tensor.new_empty((), dtype=torch.int64)


def _nothing(view: View, eps: float) -> Statistics:
    mean, var, invstd, count = _room(view)
    return mean.zero_(), var.zero_(), invstd.fill_(eps).rsqrt_(), count.zero_()


def _measure(view: View, mask: Tensor | None, eps: float) -> Statistics:
    """Statistics by partial results; ``mask`` as bytes."""
    if view.tensor.numel() == 0:
        return _nothing(view, eps)

    plan = cut(view.n, view.channels, view.space, view.tensor.dtype, whole=False)
    counts = view.tensor.new_empty((plan.splits, view.channels), dtype=torch.int32)
    partial = counts, *(view.channel_values(plan.splits) for _ in range(3))
    stats_kernel[(plan.programs,)](
        view.tensor, mask, *partial, *plan.shape_args, plan.blocks, **plan.meta
    )
    statistics = _room(view)
    block_p, block_c, programs = plan.merge
    merge_kernel[(programs,)](
        *(*partial, *statistics, plan.splits, view.channels),
        EPS=eps,
        INDEX=plan.index,
        BP=block_p,
        BC=block_c,
    )

    return statistics


def _apply(
    view: View,
    mean: Tensor,
    scale: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    output: Tensor,
    eps: float | None,
    activation: int,
    slope: float,
) -> None:
    """``scale`` holds variances if ``eps`` is given, else invstds."""
    x = view.tensor
    if x.numel() == 0:
        return

    plan = cut(view.n, view.channels, view.space, x.dtype, whole=False)
    apply_kernel[(plan.programs,)](
        *(x, weight, bias, residual, mask, output, mean, scale),
        *plan.shape_args,
        plan.blocks,
        FROM_VAR=eps is not None,
        EPS=0.0 if eps is None else eps,
        CODE=int(activation),
        SLOPE=slope,
        ACC=ACCUMULATE[accumulation_dtype(x.dtype)],
        **plan.meta,
    )
