"""The phases apart: measure, then normalise by what was decided, with the backward of training.

Between the two a variant agrees with other ranks, or corrects the statistics. The backward lets the
gradient flow through them as if they were the batch's own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import reference
from ._lanes import Lane, wants_grad
from ._saving import saved_in_train
from ._schemas import NAMESPACE

__all__ = ["Agree", "agree_by_sums", "measure", "normalise_by_agreed"]

_ops = getattr(torch.ops, NAMESPACE)
_stats = _ops.batch_norm_stats.default
_apply = _ops.batch_norm_apply.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_functorch_active = torch._C._are_functorch_transforms_active

# mean, var (biased), count
Proposal = tuple[Tensor, Tensor, Tensor]

Agree = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Sums of two ``(C,)`` over everyone who is normalised together; where gradients are enabled it
must be differentiable (a sum over ranks is its own adjoint)."""


def measure(lane: Lane, input: Tensor, mask: Tensor | None) -> Proposal:
    """Mean, biased variance and count of the batch.

    Constants in the eager and the compiled lane, whose backward knows what they depend on;
    differentiable in the others.

    Args:
        lane: the way of this call.
        input: ``(N, C, *)``.
        mask: bool ``(N, *)``, contiguous; None: everything is real.
    """
    mean: Tensor
    if lane is Lane.EAGER:
        with _BelowAutograd():
            mean, var, count = _stats(input, mask)
    elif lane is Lane.COMPILED:
        mean, var, count = _stats(input.detach(), mask)
    else:
        mean, var, count = reference.batch_norm_stats(input, mask)

    return mean, var, count


def normalise_by_agreed(
    lane: Lane,
    mean: Tensor,
    invstd: Tensor,
    count: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    agree: Agree | None = None,
) -> Tensor:
    """Output by agreed statistics; the backward is that of training.

    Args:
        lane: the way of this call, the same as for ``measure``.
        mean: ``(C,)``, accumulation dtype. Outside the eager and the compiled lane it and
            ``invstd`` must still depend on the input, as ``measure`` returns them.
        invstd: ``(C,)``, likewise.
        count: int64 ``()``: the values per channel that ``mean`` and ``invstd`` come from.
        input: ``(N, C, *)``.
        weight: ``(C,)``, any float dtype; None: 1. May be computed: its gradient is exact.
        bias: ``(C,)``, likewise; None: 0.
        residual: as input; None: 0.
        mask: bool ``(N, *)``, contiguous; None: everything is real.
        activation: code of ``Activation``.
        slope: of leaky_relu, or alpha of elu.
        agree: sums the two sums of the backward over all who share the statistics; None: the
            statistics are of this input alone. The gradients of weight and bias stay local.

    Costs: one pass forward; backward one fused call, or a reduce, ``agree`` and one more pass.
    """
    output: Tensor
    if lane is Lane.COMPILED:
        output = CompiledAgreed.apply(  # type: ignore[no-untyped-call]
            *(agree, mean.detach(), invstd.detach(), count),
            *(input, weight, bias, residual, mask, activation, slope),
        )
        return output

    args = (input, mean, invstd, weight, bias, residual, mask, activation, slope)
    if lane is not Lane.EAGER:
        return reference.batch_norm_apply(*args)

    if wants_grad(input, weight, bias, residual):
        output = apply_agreed(
            agree, mean, invstd, count, input, weight, bias, residual, mask, activation, slope
        )
    else:
        with _BelowAutograd():
            output = _apply(*args)

    return output


class Agreed(Function):
    """``batch_norm_apply`` forward; backward through statistics that others may share."""

    @staticmethod
    def forward(
        ctx: Any,
        agree: Agree | None,
        mean: Tensor,
        invstd: Tensor,
        count: Tensor,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        mask: Tensor | None,
        activation: int,
        slope: float,
    ) -> Tensor:
        with _BelowAutograd():
            output: Tensor = _apply(
                input, mean, invstd, weight, bias, residual, mask, activation, slope
            )

        residual, kept = saved_in_train(residual, output, activation, slope)
        ctx.save_for_backward(input, weight, bias, mean, invstd, residual, kept, mask, count)
        ctx.form = (activation, slope, agree)

        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        saved = ctx.saved_tensors
        # With create_graph, or many gradients at once by vmap.
        if torch.is_grad_enabled() or _functorch_active():
            grads = _gradients(reference, grad_output, _connected(saved, ctx), ctx)
        else:
            with _BelowAutograd():
                grads = _gradients(_ops, grad_output, saved, ctx)

        return None, None, None, None, *grads, None, None, None


class CompiledAgreed(Function):
    """The same, as torch.compile can trace it."""

    @staticmethod
    def forward(
        ctx: Any,
        agree: Agree | None,
        mean: Tensor,
        invstd: Tensor,
        count: Tensor,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        mask: Tensor | None,
        activation: int,
        slope: float,
    ) -> Tensor:
        output: Tensor = _apply(
            input, mean, invstd, weight, bias, residual, mask, activation, slope
        )

        residual, kept = saved_in_train(residual, output, activation, slope)
        ctx.save_for_backward(input, weight, bias, mean, invstd, residual, kept, mask, count)
        ctx.form = (activation, slope, agree)

        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grads = _gradients(_ops, grad_output, ctx.saved_tensors, ctx)

        return None, None, None, None, *grads, None, None, None


def _gradients(
    kernels: Any, grad_output: Tensor, saved: tuple[Any, ...], ctx: Any
) -> tuple[Tensor | None, ...]:
    """Gradients of input, weight, bias and residual, by the operators or the reference."""
    input, weight, bias, mean, invstd, residual, output, mask, count = saved
    activation, slope, agree = ctx.form
    need_residual = ctx.needs_input_grad[7]
    # Without an activation or a mask the residual's gradient is the incoming one.
    passes_through = need_residual and activation == 0 and mask is None
    args = (grad_output, input, weight, bias, mean, invstd)
    rest = (residual, output, mask, activation, slope)
    wanted = need_residual and not passes_through

    if agree is None:
        grad_input, grad_weight, grad_bias, grad_residual = kernels.batch_norm_train_backward(
            *args, *rest, wanted
        )
    else:
        grad_bias, grad_weight = kernels.batch_norm_backward_reduce(*args, *rest)
        totals = agree(grad_bias, grad_weight)
        grad_input, grad_residual = kernels.batch_norm_backward_apply(
            *args, *totals, count, *rest, wanted
        )

    return (
        grad_input,
        None if weight is None else grad_weight,
        None if bias is None else grad_bias,
        grad_output if passes_through else grad_residual if need_residual else None,
    )


def _connected(saved: tuple[Any, ...], ctx: Any) -> tuple[Any, ...]:
    """The saved tensors, with statistics that depend on the input, for the gradient's gradient."""
    input, weight, bias, _, invstd, residual, output, mask, count = saved
    agree = ctx.form[2]
    mean, var, own = reference.batch_norm_stats(input, mask)
    if agree is not None:
        mean, var = agree_by_sums(agree, mean, var, own, count)
    # invstd⁻² = var + eps; its value stays, its dependence on var is what counts.
    eps = (invstd.square().reciprocal() - var).detach()
    invstd = (var + eps).rsqrt()

    return input, weight, bias, mean, invstd, residual, output, mask, count


def agree_by_sums(
    agree: Agree, mean: Tensor, var: Tensor, own: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all, differentiably, from one's own and both counts."""
    share = own.to(mean.dtype) / count.clamp(min=1).to(mean.dtype)
    whole_mean, within = agree(mean * share, var * share)
    between, _ = agree((mean - whole_mean).square() * share, torch.zeros_like(mean))

    return whole_mean, within + between


# Without Python's part of it, which is for torch.func alone.
apply_agreed: Any = super(Function, Agreed).apply
