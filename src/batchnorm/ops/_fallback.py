"""The operators without kernels: ``batchnorm.reference``, for every device and dtype.

Registered under CompositeExplicitAutograd, so a kernel for a device takes precedence.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ._group_checks import check_groups
from ._layout import laid_out_as
from ._schemas import LIBRARY

__all__: list[str] = []


def _fallback(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register under the function's own name."""
    LIBRARY.impl(function.__name__, function, "CompositeExplicitAutograd")
    return function


@_fallback
def batch_norm_train(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    output, *statistics = reference.batch_norm_train(input, *args)
    return laid_out_as(output, input), *statistics


@_fallback
def batch_norm_train_(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    output, *statistics = reference.batch_norm_train(input, *args)
    input.copy_(output)
    return tuple(statistics)


@_fallback
def batch_norm_eval(input: Tensor, *args: Any) -> Tensor:
    return laid_out_as(reference.batch_norm_eval(input, *args), input)


@_fallback
def batch_norm_eval_(input: Tensor, *args: Any) -> None:
    input.copy_(reference.batch_norm_eval(input, *args))


@_fallback
def batch_norm_stats(input: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return reference.batch_norm_stats(input, mask)


@_fallback
def batch_norm_apply(input: Tensor, *args: Any) -> Tensor:
    return laid_out_as(reference.batch_norm_apply(input, *args), input)


@_fallback
def batch_norm_backward_reduce(grad_output: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return reference.batch_norm_backward_reduce(grad_output, *args)


def _grads_laid_out(
    input: Tensor, grad_input: Tensor, grad_residual: Tensor, need_grad_residual: bool
) -> tuple[Tensor, Tensor]:
    if need_grad_residual:
        grad_residual = laid_out_as(grad_residual, input)

    return laid_out_as(grad_input, input), grad_residual


@_fallback
def batch_norm_backward_apply(
    grad_output: Tensor, input: Tensor, *args: Any
) -> tuple[Tensor, Tensor]:
    grads = reference.batch_norm_backward_apply(grad_output, input, *args)
    return _grads_laid_out(input, *grads, need_grad_residual=args[-1])


@_fallback
def batch_norm_train_backward(grad_output: Tensor, input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return _backward(reference.batch_norm_train_backward, grad_output, input, *args)


@_fallback
def batch_norm_eval_backward(grad_output: Tensor, input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return _backward(reference.batch_norm_eval_backward, grad_output, input, *args)


def _backward(
    backward: Callable[..., Any], grad_output: Tensor, input: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    grad_input, grad_weight, grad_bias, grad_residual = backward(grad_output, input, *args)
    grad_input, grad_residual = _grads_laid_out(
        input, grad_input, grad_residual, need_grad_residual=args[-1]
    )

    return grad_input, grad_weight, grad_bias, grad_residual


@_fallback
def batch_norm_groups_train(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    weight, bias, _, _, index, groups, rows, *_ = args
    check_groups("batch_norm_groups_train", input, weight, bias, index, groups, rows)
    output, *statistics = reference.batch_norm_groups_train(input, *args)
    return laid_out_as(output, input), *statistics


@_fallback
def batch_norm_groups_merge(
    mean: Tensor, var: Tensor, count: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return reference.batch_norm_groups_merge(mean, var, count)


@_fallback
def batch_norm_groups_apply(input: Tensor, mean: Tensor, *args: Any) -> Tensor:
    _, weight, bias, _, _, index, rows, *_ = args
    check_groups("batch_norm_groups_apply", input, weight, bias, index, len(mean), rows)
    return laid_out_as(reference.batch_norm_groups_apply(input, mean, *args), input)


@_fallback
def batch_norm_groups_backward(
    grad_output: Tensor, input: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    weight, bias, mean, *_ = args
    index, rows = args[8:10]
    check_groups("batch_norm_groups_backward", input, weight, bias, index, len(mean), rows)
    return _backward(reference.batch_norm_groups_backward, grad_output, input, *args)


@_fallback
def batch_norm_commit_(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    num_nonfinite: Tensor,
    *args: Any,
) -> None:
    # In a backward this is a compiled forward, repeated by activation checkpointing.
    if torch._C._current_graph_task_id() != -1:
        return

    buffers = (running_mean, running_var, num_batches_tracked, num_nonfinite)
    for buffer, value in zip(buffers, reference.batch_norm_commit(*buffers, *args), strict=True):
        buffer.copy_(value)
