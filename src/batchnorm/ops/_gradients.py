"""One backward for every lane: eager, compiled, and differentiable for double backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ._schemas import NAMESPACE

__all__ = ["gradients"]

_ops = getattr(torch.ops, NAMESPACE)
_train_backward = _ops.batch_norm_train_backward.default
_eval_backward = _ops.batch_norm_eval_backward.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_functorch_active = torch._C._are_functorch_transforms_active

# input, weight, bias, mean, invstd, residual, output, mask
Saved = tuple[Tensor | None, ...]
# training, eps, activation, slope
Form = tuple[bool, float, int, float]
# of input, weight, bias, residual
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def gradients(
    grad_output: Tensor | None, saved: Saved, form: Form, need_grad_residual: bool
) -> Gradients:
    """Gradients of input, weight, bias and residual, from what the forward saved.

    Those of weight and bias are in the accumulation dtype; autograd casts them.

    Args:
        grad_output: ``(N, C, *)``; None when nothing depends on the output.
        saved: input (or None), weight, bias, mean, invstd, residual, output, mask.
        form: settings of the forward call: training, eps, activation, slope.
        need_grad_residual: whether the residual's gradient is wanted.
    """
    if grad_output is None:
        return None, None, None, None

    input, weight, bias, mean, invstd, residual, output, mask = saved
    training, eps, activation, slope = form
    # Without an activation or a mask the residual's gradient is the incoming one.
    passes_through = need_grad_residual and activation == 0 and mask is None
    args = (
        grad_output,
        grad_output if input is None else input,  # then x̂ is not needed
        *(weight, bias, mean, invstd, residual, output, mask, activation, slope),
        need_grad_residual and not passes_through,
    )
    grads: tuple[Tensor, ...]
    if torch.is_grad_enabled():
        grads = _differentiable(args, training, eps)
    elif _functorch_active():  # many gradients at once, by vmap
        grads = _reference_backward(training)(*args)
    else:
        with _BelowAutograd():
            grads = (_train_backward if training else _eval_backward)(*args)
    grad_input, grad_weight, grad_bias, grad_residual = grads

    return (
        grad_input,
        None if weight is None else grad_weight,
        None if bias is None else grad_bias,
        grad_output if passes_through else grad_residual if need_grad_residual else None,
    )


def _reference_backward(training: bool) -> Callable[..., tuple[Tensor, ...]]:
    if training:
        return reference.batch_norm_train_backward

    return reference.batch_norm_eval_backward


def _differentiable(args: tuple[Any, ...], training: bool, eps: float) -> tuple[Tensor, ...]:
    """The same in differentiable operations: someone wants the gradient's gradient."""
    if training:
        # The batch's statistics depend on the input; the saved ones have forgotten it.
        grad_output, input, weight, bias, _, _, residual, output, mask, *rest = args
        mean, var, _ = reference.batch_norm_stats(input, mask)
        invstd = (var + eps).rsqrt()
        args = (grad_output, input, weight, bias, mean, invstd, residual, output, mask, *rest)

    return _reference_backward(training)(*args)
