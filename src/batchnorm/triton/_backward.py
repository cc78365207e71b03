"""Backward operators: allocate, cut, launch."""

import torch
from torch import Tensor

from ._backward_kernels import (
    backward_apply_kernel,
    reduce_kernel,
    sum_kernel,
    train_backward_kernel,
)
from ._plan import cut
from ._tensors import View, accumulation_dtype, alike, bytes_of, check, dense, on_device_of
from ._types import ACCUMULATE

__all__ = [
    "batch_norm_backward_apply",
    "batch_norm_backward_reduce",
    "batch_norm_eval_backward",
    "batch_norm_train_backward",
]

# grad_input, grad_weight, grad_bias, grad_residual
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
# residual, output, mask as bytes: laid out as the input
Extras = tuple[Tensor | None, Tensor | None, Tensor | None]
# weight, bias, mean, invstd
Channels = tuple[Tensor | None, Tensor | None, Tensor, Tensor]


def batch_norm_train_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    need_grad_residual: bool,
) -> Gradients:
    """Reduce and apply in one: gradients of the training form."""
    channels = (weight, bias, mean, invstd)
    like_input = (grad_output, residual, output)
    check("batch_norm_train_backward", input, channels, like_input, mask)
    view, dy, extras = _arranged(grad_output, input, residual, output, mask)
    dx, dr = torch.empty_like(view.tensor), _room(view, need_grad_residual)
    if view.tensor.numel() == 0:
        return dx, *_no_sums(view), _given(dr, view)

    plan = cut(view.n, view.channels, view.space, view.tensor.dtype, whole=True)
    with on_device_of(input):
        if plan.splits > 1:
            sums = _reduce(dy, view, channels, extras, None, None, activation, slope)
            count = None if mask is None else mask.sum()
            _apply(dy, view, channels, sums, count, extras, dx, dr, activation, slope)
        else:
            sums = view.channel_values(), view.channel_values()
            train_backward_kernel[(plan.programs,)](
                *(dy, view.tensor, *channels, *extras, dx, dr, *sums),
                *plan.shape_args,
                CODE=int(activation),
                SLOPE=slope,
                ON_CHIP=plan.on_chip,
                **plan.meta,
            )

    return dx, sums[1], sums[0], _given(dr, view)


def batch_norm_eval_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    need_grad_residual: bool,
) -> Gradients:
    """Gradients when the statistics are constants, in one pass."""
    channels = (weight, bias, mean, invstd)
    like_input = (grad_output, residual, output)
    check("batch_norm_eval_backward", input, channels, like_input, mask)
    view, dy, extras = _arranged(grad_output, input, residual, output, mask)
    dx, dr = torch.empty_like(view.tensor), _room(view, need_grad_residual)
    with on_device_of(input):
        sum_dy, sum_dy_xhat = _reduce(dy, view, channels, extras, dx, dr, activation, slope)

    return dx, sum_dy_xhat, sum_dy, _given(dr, view)


def batch_norm_backward_reduce(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """``sum_dy`` and ``sum_dy_xhat`` of each channel."""
    channels = (weight, bias, mean, invstd)
    like_input = (grad_output, residual, output)
    check("batch_norm_backward_reduce", input, channels, like_input, mask)
    view, dy, extras = _arranged(grad_output, input, residual, output, mask)
    with on_device_of(input):
        return _reduce(dy, view, channels, extras, None, None, activation, slope)


def batch_norm_backward_apply(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    sum_dy: Tensor,
    sum_dy_xhat: Tensor,
    count: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    need_grad_residual: bool,
) -> tuple[Tensor, Tensor]:
    """The input's gradient from sums over everything that was normalised together."""
    channels = (weight, bias, mean, invstd)
    like_input = (grad_output, residual, output)
    counts = count if count.dim() else None
    per_channel = (*channels, sum_dy, sum_dy_xhat, counts)
    check("batch_norm_backward_apply", input, per_channel, like_input, mask)
    view, dy, extras = _arranged(grad_output, input, residual, output, mask)
    dx, dr = torch.empty_like(view.tensor), _room(view, need_grad_residual)
    with on_device_of(input):
        sums = sum_dy, sum_dy_xhat
        _apply(dy, view, channels, sums, count, extras, dx, dr, activation, slope)

    return dx, _given(dr, view)


def _arranged(
    grad_output: Tensor,
    input: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
) -> tuple[View, Tensor, Extras]:
    view = dense(input)
    x = view.tensor
    dy = alike(grad_output, x)
    assert dy is not None

    return view, dy, (alike(residual, x), alike(output, x), bytes_of(mask))


def _room(view: View, wanted: bool) -> Tensor | None:
    return torch.empty_like(view.tensor) if wanted else None


def _given(dr: Tensor | None, view: View) -> Tensor:
    return view.tensor.new_empty(0) if dr is None else dr


def _no_sums(view: View) -> tuple[Tensor, Tensor]:
    return view.channel_values().zero_(), view.channel_values().zero_()


def _reduce(
    dy: Tensor,
    view: View,
    channels: Channels,
    extras: Extras,
    dx: Tensor | None,
    dr: Tensor | None,
    activation: int,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """Sums by partial results; with ``dx`` the gradients when the statistics are constants."""
    if view.tensor.numel() == 0:
        return _no_sums(view)

    plan = cut(view.n, view.channels, view.space, view.tensor.dtype, whole=False)
    partial = view.channel_values(plan.splits), view.channel_values(plan.splits)
    reduce_kernel[(plan.programs,)](
        *(dy, view.tensor, *channels, *extras, dx, dr, *partial),
        *plan.shape_args,
        plan.blocks,
        CODE=int(activation),
        SLOPE=slope,
        **plan.meta,
    )
    if plan.splits == 1:
        return partial[0][0], partial[1][0]

    sums = view.channel_values(), view.channel_values()
    block_p, block_c, programs = plan.merge
    sum_kernel[(programs,)](
        *(*partial, *sums, plan.splits, view.channels),
        INDEX=plan.index,
        BP=block_p,
        BC=block_c,
    )

    return sums


def _apply(
    dy: Tensor,
    view: View,
    channels: Channels,
    sums: tuple[Tensor, Tensor],
    count: Tensor | None,
    extras: Extras,
    dx: Tensor,
    dr: Tensor | None,
    activation: int,
    slope: float,
) -> None:
    """Without a ``count`` every position counts."""
    if view.tensor.numel() == 0:
        return

    x = view.tensor
    plan = cut(view.n, view.channels, view.space, x.dtype, whole=False)
    backward_apply_kernel[(plan.programs,)](
        *(dy, x, *channels, *sums, count, *extras, dx, dr),
        *plan.shape_args,
        plan.blocks,
        view.positions,
        COUNTS=count is not None and count.dim() > 0,
        CODE=int(activation),
        SLOPE=slope,
        ACC=ACCUMULATE[accumulation_dtype(x.dtype)],
        **plan.meta,
    )
