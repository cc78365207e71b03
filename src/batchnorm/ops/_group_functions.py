"""Autograd of the operators on groups: eager functions, and the rules that torch.compile reads."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import reference
from .._errors import explain
from ._functions import _direct_apply
from ._saving import saved_in_eval, saved_in_train
from ._schemas import LIBRARY, NAMESPACE

__all__ = ["apply_groups_apply", "apply_groups_train"]

_ops = getattr(torch.ops, NAMESPACE)
_train = _ops.batch_norm_groups_train.default
_apply = _ops.batch_norm_groups_apply.default
_backward = _ops.batch_norm_groups_backward.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_functorch_active = torch._C._are_functorch_transforms_active

# input, weight, bias, residual
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class GroupsTrain(Function):
    """``batch_norm_groups_train``; the statistics leave through a list, as in ``Train``."""

    @staticmethod
    def forward(ctx: Any, statistics: list[Tensor], *args: Any) -> Tensor:
        output: Tensor
        with _BelowAutograd():
            output, *measured = _train(*args)
        mean, var, _, count = measured
        statistics += (mean, var, count)
        _keep_train(ctx, args, (output, *measured))

        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return None, *_spread(_gradients(ctx, grad_output, wanted=ctx.needs_input_grad[4]))


class GroupsApply(Function):
    """``batch_norm_groups_apply``; the statistics are constants."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        with _BelowAutograd():
            output: Tensor = _apply(*args)
        _keep_apply(ctx, args, output, needs_grad_weight=ctx.needs_input_grad[3])

        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grads = _gradients(ctx, grad_output, wanted=ctx.needs_input_grad[5])

        return grads[0], None, None, *grads[1:], *(None,) * 5


def _keep_train(ctx: Any, args: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
    input, weight, bias, residual, mask, index, _, rows, eps, activation, slope = args
    output, mean, _, invstd, count = results
    residual, kept = saved_in_train(residual, output, activation, slope)
    ctx.save_for_backward(
        *(input, weight, bias, mean, invstd, count, residual, kept, mask, index, rows)
    )
    ctx.form = (True, eps, activation, slope)


def _keep_apply(
    ctx: Any, args: tuple[Any, ...], output: Tensor, *, needs_grad_weight: bool
) -> None:
    input, mean, invstd, weight, bias, residual, mask, index, rows, activation, slope = args
    kept, residual, kept_output = saved_in_eval(
        input, residual, output, activation, slope, needs_grad_weight
    )
    count = index.new_zeros(mean.shape[0])  # has a part in training alone
    ctx.save_for_backward(
        *(kept, weight, bias, mean, invstd, count, residual, kept_output, mask, index, rows)
    )
    ctx.form = (False, 0.0, activation, slope)


def _gradients(ctx: Any, grad_output: Tensor | None, *, wanted: bool) -> Gradients:
    """Of input, weight, bias and residual; see ``_gradients.gradients``."""
    if grad_output is None:
        return None, None, None, None

    input, weight, bias, mean, invstd, count, *rest = ctx.saved_tensors
    residual, output, mask, index, rows = rest
    training, eps, activation, slope = ctx.form
    if input is None:
        input = grad_output  # then x̂ is not needed
    passes_through = wanted and activation == 0 and mask is None

    backward: Any = _backward
    differentiable = torch.is_grad_enabled()
    if differentiable and training:
        # The batch's statistics depend on the input; the saved ones have forgotten it.
        mean, var, count = reference.batch_norm_groups_stats(input, mask, index, len(mean))
        invstd = (var + eps).rsqrt()
    if differentiable or _functorch_active():
        backward = reference.batch_norm_groups_backward
    args = (
        *(grad_output, input, weight, bias, mean, invstd, count, residual, output, mask),
        *(index, rows, activation, slope, training, wanted and not passes_through),
    )
    if backward is _backward:
        with _BelowAutograd():
            grads = backward(*args)
    else:
        grads = backward(*args)
    grad_input, grad_weight, grad_bias, grad_residual = grads

    return (
        grad_input,
        None if weight is None else grad_weight,
        None if bias is None else grad_bias,
        grad_output if passes_through else grad_residual if wanted else None,
    )


def _spread(grads: Gradients) -> tuple[Any, ...]:
    """Gradients in the places of ``batch_norm_groups_train``'s arguments."""
    return *grads, *(None,) * 7


def _train_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _keep_train(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _train_backward(ctx: Any, grad_output: Tensor | None, *_: Any) -> tuple[Any, ...]:
    return _spread(_gradients(ctx, grad_output, wanted=ctx.needs_input_grad[3]))


def _apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        raise RuntimeError(
            explain(
                "batch_norm_groups_apply",
                "mean and invstd are constants",
                "a mean or invstd that requires grad",
                "Detach them, or use batchnorm.reference.batch_norm_groups_apply",
            )
        )
    _keep_apply(ctx, inputs, output, needs_grad_weight=ctx.needs_input_grad[3])


def _apply_backward(ctx: Any, grad_output: Tensor | None) -> tuple[Any, ...]:
    grads = _gradients(ctx, grad_output, wanted=ctx.needs_input_grad[5])

    return grads[0], None, None, *grads[1:], *(None,) * 5


def _refuse(ctx: Any, *_: Any) -> Any:
    raise RuntimeError(
        explain(
            "batch_norm_groups_backward",
            "the operator has no derivative of its own",
            "a backward through it",
            "Use batchnorm.reference.batch_norm_groups_train, which can be differentiated twice",
        )
    )


def _register(name: str, backward: Any, setup_context: Any = None) -> None:
    torch.library.register_autograd(
        f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=LIBRARY
    )


_register("batch_norm_groups_train", _train_backward, _train_setup)
_register("batch_norm_groups_apply", _apply_backward, _apply_setup)
_register("batch_norm_groups_backward", _refuse)

apply_groups_train = _direct_apply(GroupsTrain)
apply_groups_apply = _direct_apply(GroupsApply)
