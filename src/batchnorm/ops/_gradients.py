"""One backward for every lane: eager, compiled, and differentiable for double backward."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import reference
from ._schemas import NAMESPACE

__all__ = ["Form", "gradients"]

_ops = getattr(torch.ops, NAMESPACE)
_train_backward = _ops.batch_norm_train_backward.default
_eval_backward = _ops.batch_norm_eval_backward.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd

# input, weight, bias, mean, invstd, residual, output, mask
Saved = tuple[Tensor | None, ...]
# of input, weight, bias, residual
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class Form(NamedTuple):
    """The settings of a call that its backward needs."""

    training: bool
    eps: float
    activation: int
    slope: float


def gradients(
    grad_output: Tensor | None, saved: Saved, form: Form, need_grad_residual: bool
) -> Gradients:
    """Gradients of input, weight, bias and residual, from what the forward saved.

    Args:
        grad_output: ``(N, C, *)``; None when nothing depends on the output.
        saved: input (or None), weight, bias, mean, invstd, residual, output, mask.
        form: settings of the forward call.
        need_grad_residual: whether the residual's gradient is wanted.
    """
    if grad_output is None:
        return None, None, None, None

    input, weight, bias, mean, invstd, residual, output, mask = saved
    # Without an activation or a mask the residual's gradient is the incoming one.
    passes_through = form.activation == 0 and mask is None
    args = (
        grad_output,
        grad_output if input is None else input,  # then x̂ is not needed
        weight,
        bias,
        mean,
        invstd,
        residual,
        output,
        mask,
        form.activation,
        form.slope,
        need_grad_residual and not passes_through,
    )
    grads: tuple[Tensor, ...]
    if torch.is_grad_enabled():
        grads = _differentiable(args, form)
    else:
        with _BelowAutograd():
            grads = (_train_backward if form.training else _eval_backward)(*args)
    grad_input, grad_weight, grad_bias, grad_residual = grads

    if passes_through:
        grad_residual = grad_output

    return (
        grad_input,
        _as_parameter(grad_weight, weight),
        _as_parameter(grad_bias, bias),
        grad_residual if need_grad_residual else None,
    )


def _differentiable(args: tuple[Any, ...], form: Form) -> tuple[Tensor, ...]:
    """The same in differentiable operations: someone wants the gradient's gradient."""
    if not form.training:
        return reference.batch_norm_eval_backward(*args)

    # The batch's statistics depend on the input; the saved ones have forgotten it.
    grad_output, input, weight, bias, _, _, residual, output, mask, *rest = args
    mean, var, _ = reference.batch_norm_stats(input, mask)
    invstd = (var + form.eps).rsqrt()

    return reference.batch_norm_train_backward(
        grad_output, input, weight, bias, mean, invstd, residual, output, mask, *rest
    )


def _as_parameter(grad: Tensor, parameter: Tensor | None) -> Tensor | None:
    if parameter is None or grad.dtype == parameter.dtype:
        return None if parameter is None else grad

    return grad.to(parameter.dtype)
