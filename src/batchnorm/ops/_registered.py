"""Autograd rules of the operators themselves, which torch.compile reads."""

from typing import Any

import torch
from torch import Tensor

from .. import reference
from .._errors import explain
from ..reference import accumulation_dtype
from ._gradients import gradients
from ._saving import saved_in_eval, saved_in_train
from ._schemas import LIBRARY, NAMESPACE

__all__: list[str] = []


def _register(name: str, backward: Any, setup_context: Any = None) -> None:
    torch.library.register_autograd(
        f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=LIBRARY
    )


def _train_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, weight, bias, residual, mask, eps, activation, slope = inputs
    result, mean, var, invstd, count = output
    residual, kept_output = saved_in_train(residual, result, activation, slope)
    ctx.save_for_backward(input, weight, bias, mean, invstd, residual, kept_output, mask)
    ctx.form = (True, eps, activation, slope)
    ctx.mark_non_differentiable(mean, var, invstd, count)
    ctx.set_materialize_grads(False)


def _train_backward(ctx: Any, grad_output: Tensor | None, *_: Any) -> tuple[Any, ...]:
    grads = gradients(grad_output, ctx.saved_tensors, ctx.form, ctx.needs_input_grad[3])

    return (*grads, None, None, None, None)


def _eval_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, mean, var, weight, bias, residual, mask, eps, activation, slope = inputs
    dtype = accumulation_dtype(input.dtype)
    # Copies: a later commit may change the buffers.
    mean, invstd = mean.to(dtype, copy=True), (var.to(dtype, copy=True) + eps).rsqrt()
    kept, kept_residual, kept_output = saved_in_eval(
        input, residual, output, activation, slope, ctx.needs_input_grad[3]
    )
    ctx.save_for_backward(kept, weight, bias, mean, invstd, kept_residual, kept_output, mask)
    ctx.form = (False, eps, activation, slope)


def _eval_backward(ctx: Any, grad_output: Tensor | None) -> tuple[Any, ...]:
    grads = gradients(grad_output, ctx.saved_tensors, ctx.form, ctx.needs_input_grad[5])
    grad_input, grad_weight, grad_bias, grad_residual = grads

    return grad_input, None, None, grad_weight, grad_bias, grad_residual, *(None,) * 4


def _stats_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, mask = inputs
    mean, _, count = output
    ctx.save_for_backward(input, mask, mean, count)
    ctx.mark_non_differentiable(count)
    ctx.set_materialize_grads(False)


def _stats_backward(
    ctx: Any, grad_mean: Tensor | None, grad_var: Tensor | None, _: None
) -> tuple[Tensor | None, None]:
    input, mask, mean, count = ctx.saved_tensors

    return reference.batch_norm_stats_backward(grad_mean, grad_var, input, mean, count, mask), None


def _apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, mean, invstd, weight, bias, residual, mask, activation, slope = inputs
    residual, kept_output = saved_in_train(residual, output, activation, slope)
    ctx.save_for_backward(input, weight, bias, mean, invstd, residual, kept_output, mask)
    ctx.form = (False, 0.0, activation, slope)


def _apply_backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
    _, weight, bias, _, invstd, *_ = ctx.saved_tensors
    ones, zeros = torch.ones_like(invstd), torch.zeros_like(invstd)
    weight_acc = ones if weight is None else weight.to(invstd.dtype)
    bias_acc = zeros if bias is None else bias.to(invstd.dtype)
    saved = list(ctx.saved_tensors)
    saved[1:3] = [weight_acc, bias_acc]

    grads = gradients(grad_output, tuple(saved), ctx.form, ctx.needs_input_grad[5])
    grad_input, sum_dy_xhat, sum_dy, grad_residual = grads
    assert sum_dy_xhat is not None
    assert sum_dy is not None
    grad_mean = -weight_acc * invstd * sum_dy
    grad_invstd = weight_acc * sum_dy_xhat / invstd
    grad_weight = None if weight is None else sum_dy_xhat.to(weight.dtype)
    grad_bias = None if bias is None else sum_dy.to(bias.dtype)

    return (
        *(grad_input, grad_mean, grad_invstd, grad_weight, grad_bias, grad_residual),
        *(None, None, None),
    )


def _refuse(name: str) -> Any:
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            explain(
                name,
                "the operator has no derivative of its own",
                "a backward through it",
                "Use batchnorm.functional.batch_norm, whose double backward is exact",
            )
        )

    return backward


_register("batch_norm_train", _train_backward, _train_setup)
_register("batch_norm_eval", _eval_backward, _eval_setup)
_register("batch_norm_stats", _stats_backward, _stats_setup)
_register("batch_norm_apply", _apply_backward, _apply_setup)
for _name in ("train_backward", "eval_backward", "backward_reduce", "backward_apply"):
    _register(f"batch_norm_{_name}", _refuse(f"batch_norm_{_name}"))
