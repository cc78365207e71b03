"""Eager autograd: one operator forward, one backward, nothing else on tensors."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .._errors import explain
from .._types import Activation
from ._gradients import gradients
from ._saving import saved_in_eval, saved_in_train
from ._schemas import NAMESPACE

__all__ = ["apply_eval", "apply_eval_", "apply_train", "apply_train_"]

_ops = getattr(torch.ops, NAMESPACE)
_train = _ops.batch_norm_train.default
_train_ = _ops.batch_norm_train_.default
_eval = _ops.batch_norm_eval.default
_eval_ = _ops.batch_norm_eval_.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd


class Train(Function):
    """``batch_norm_train``.

    The statistics leave through a list: as results they would need a mark that they have no
    gradient, and a gradient each in the backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        statistics: list[Tensor],
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        mask: Tensor | None,
        eps: float,
        activation: int,
        slope: float,
    ) -> Tensor:
        output: Tensor
        with _BelowAutograd():
            output, mean, var, invstd, count = _train(
                input, weight, bias, residual, mask, eps, activation, slope
            )
        statistics += (mean, var, count)

        kept_output = None
        if residual is not None:
            residual, kept_output = saved_in_train(residual, output, activation, slope)
        ctx.save_for_backward(input, weight, bias, mean, invstd, residual, kept_output, mask)
        ctx.form = (True, eps, activation, slope)

        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grad_input, grad_weight, grad_bias, grad_residual = gradients(
            grad_output, ctx.saved_tensors, ctx.form, ctx.needs_input_grad[4]
        )

        return None, grad_input, grad_weight, grad_bias, grad_residual, None, None, None, None


class Eval(Function):
    """``batch_norm_eval``; keeps copies of the statistics, which a later commit may change."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        mask: Tensor | None,
        eps: float,
        activation: int,
        slope: float,
    ) -> Tensor:
        with _BelowAutograd():
            output: Tensor = _eval(
                input, mean, var, weight, bias, residual, mask, eps, activation, slope
            )
            mean, invstd = mean.clone(), (var + eps).rsqrt_()

        kept, kept_residual, kept_output = saved_in_eval(
            input, residual, output, activation, slope, ctx.needs_input_grad[3]
        )
        ctx.save_for_backward(kept, weight, bias, mean, invstd, kept_residual, kept_output, mask)
        ctx.form = (False, eps, activation, slope)

        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grads = gradients(grad_output, ctx.saved_tensors, ctx.form, ctx.needs_input_grad[5])
        grad_input, grad_weight, grad_bias, grad_residual = grads

        return grad_input, None, None, grad_weight, grad_bias, grad_residual, *(None,) * 4


class TrainInplace(Function):
    """``batch_norm_train_``: the output takes the input's place, and is all that is kept.

    The statistics leave through a list, as in ``Train``; an input that is a view demands it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        statistics: list[Tensor],
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mask: Tensor | None,
        eps: float,
        activation: int,
        slope: float,
    ) -> Tensor:
        with _BelowAutograd():
            mean, var, invstd, count = _train_(
                input, weight, bias, None, mask, eps, activation, slope
            )
        statistics += (mean, var, count)

        ctx.mark_dirty(input)
        ctx.save_for_backward(input, weight, bias, invstd, mask)
        ctx.form = (True, eps, activation, slope)

        return input

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return None, *_inplace_gradients(ctx, grad_output), *(None,) * 4


class EvalInplace(Function):
    """``batch_norm_eval_``, likewise."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mask: Tensor | None,
        eps: float,
        activation: int,
        slope: float,
    ) -> Tensor:
        with _BelowAutograd():
            _eval_(input, mean, var, weight, bias, None, mask, eps, activation, slope)
            invstd = (var + eps).rsqrt_()

        ctx.mark_dirty(input)
        ctx.save_for_backward(input, weight, bias, invstd, mask)
        ctx.form = (False, eps, activation, slope)

        return input

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grad_input, grad_weight, grad_bias = _inplace_gradients(ctx, grad_output)

        return grad_input, None, None, grad_weight, grad_bias, *(None,) * 5


def _inplace_gradients(
    ctx: Any, grad_output: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The ordinary backward, told that the input was ``x̂ * weight + bias``.

    With mean = bias and invstd = 1 / weight it finds the true x̂, and with weight² * invstd in
    the weight's place the true ``weight * invstd`` before the input's gradient.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            explain(
                "batch_norm",
                "the in-place form has no double backward, for it forgets its input",
                "create_graph=True",
                "Use inplace=False",
            )
        )

    output, weight, bias, invstd, mask = ctx.saved_tensors
    _, _, activation, slope = ctx.form
    scale = torch.ones_like(invstd) if weight is None else weight.to(invstd.dtype)
    shift = torch.zeros_like(invstd) if bias is None else bias.to(invstd.dtype)
    pre = output
    if activation == Activation.LEAKY_RELU:
        pre = torch.nn.functional.leaky_relu(output, 1 / slope)
    saved = (pre, scale * scale * invstd, shift, shift, scale.reciprocal(), None, output, mask)
    grad_input, grad_weight, grad_bias, _ = gradients(grad_output, saved, ctx.form, False)

    return (
        grad_input,
        None if weight is None else grad_weight,
        None if bias is None else grad_bias,
    )


def _direct_apply(function: type[Function]) -> Any:
    """``function.apply`` without Python's part of it, which is for ``torch.func`` alone."""
    return super(Function, function).apply  # type: ignore[misc]


apply_train = _direct_apply(Train)
apply_train_ = _direct_apply(TrainInplace)
apply_eval = _direct_apply(Eval)
apply_eval_ = _direct_apply(EvalInplace)
