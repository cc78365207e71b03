"""Shapes, dtypes and layouts of every result, for tracing without data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..reference import accumulation_dtype
from ._layout import empty_as
from ._schemas import LIBRARY, NAMESPACE

__all__: list[str] = []


def _fake(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register under the function's own name."""
    torch.library.register_fake(f"{NAMESPACE}::{function.__name__}", function, lib=LIBRARY)
    return function


def _channels(input: Tensor) -> Tensor:
    """``(C,)`` in the accumulation dtype."""
    return input.new_empty(input.shape[1], dtype=accumulation_dtype(input.dtype))


def _count(input: Tensor) -> Tensor:
    return input.new_empty((), dtype=torch.int64)


def _residual_grad(input: Tensor, wanted: bool) -> Tensor:
    return empty_as(input) if wanted else input.new_empty(0)


@_fake
def batch_norm_train(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return (
        empty_as(input),
        _channels(input),
        _channels(input),
        _channels(input),
        _count(input),
    )


@_fake
def batch_norm_train_(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return _channels(input), _channels(input), _channels(input), _count(input)


@_fake
def batch_norm_train_backward(grad_output: Tensor, input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return (
        empty_as(input),
        _channels(input),
        _channels(input),
        _residual_grad(input, wanted=args[-1]),
    )


@_fake
def batch_norm_eval(input: Tensor, *args: Any) -> Tensor:
    return empty_as(input)


@_fake
def batch_norm_eval_(input: Tensor, *args: Any) -> None:
    return None


@_fake
def batch_norm_eval_backward(grad_output: Tensor, input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return (
        empty_as(input),
        _channels(input),
        _channels(input),
        _residual_grad(input, wanted=args[-1]),
    )


@_fake
def batch_norm_stats(input: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return _channels(input), _channels(input), _count(input)


@_fake
def batch_norm_apply(input: Tensor, *args: Any) -> Tensor:
    return empty_as(input)


@_fake
def batch_norm_backward_reduce(
    grad_output: Tensor, input: Tensor, *args: Any
) -> tuple[Tensor, Tensor]:
    return _channels(input), _channels(input)


@_fake
def batch_norm_backward_apply(
    grad_output: Tensor, input: Tensor, *args: Any
) -> tuple[Tensor, Tensor]:
    return empty_as(input), _residual_grad(input, wanted=args[-1])


@_fake
def batch_norm_groups_train(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    index: Tensor,
    groups: int,
    *args: Any,
) -> tuple[Tensor, ...]:
    dtype = accumulation_dtype(input.dtype)
    statistics = (input.new_empty(groups, input.shape[1], dtype=dtype) for _ in range(3))
    return empty_as(input), *statistics, input.new_empty(groups, dtype=torch.int64)


@_fake
def batch_norm_groups_merge(mean: Tensor, var: Tensor, count: Tensor) -> tuple[Tensor, ...]:
    return mean.new_empty(mean.shape[1]), var.new_empty(var.shape[1]), count.new_empty(())


@_fake
def batch_norm_groups_apply(input: Tensor, *args: Any) -> Tensor:
    return empty_as(input)


@_fake
def batch_norm_groups_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *args: Any,
) -> tuple[Tensor, ...]:
    table = bias if weight is None else weight
    grads = (_channels(input), _channels(input))
    if table is not None:
        dtype = accumulation_dtype(input.dtype)
        grads = (torch.empty_like(table, dtype=dtype), torch.empty_like(table, dtype=dtype))
    return empty_as(input), *grads, _residual_grad(input, wanted=args[-1])


@_fake
def batch_norm_commit_(*args: Any) -> None:
    return None
