"""Normalise by the batch's statistics, or by given ones, by the lane that fits.

The hot path of every layer. It makes one operator call and no other tensor; whatever must be asked
of a tensor is asked once.
"""

import torch
from torch import Tensor

from .. import reference
from ._functions import apply_eval, apply_eval_, apply_train, apply_train_
from ._groups import normalise_samples, normalise_samples_by, scale_samples
from ._lanes import Lane, wants_grad
from ._schemas import NAMESPACE

__all__ = ["normalise_by", "normalise_by_batch"]

_ops = getattr(torch.ops, NAMESPACE)
_train = _ops.batch_norm_train.default
_train_ = _ops.batch_norm_train_.default
_eval = _ops.batch_norm_eval.default
_eval_ = _ops.batch_norm_eval_.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_increment_version = torch._C._increment_version
_EAGER = Lane.EAGER

# mean, var (biased), count
Proposal = tuple[Tensor, Tensor, Tensor]


def normalise_by_batch(
    lane: Lane,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
    inplace: bool = False,
) -> tuple[Tensor, Proposal]:
    """Output and the batch's statistics, detached; ``inplace`` permits to overwrite the input.

    ``weight`` and ``bias`` are ``(C,)``, or ``(N, C)``: of each sample.
    """
    output: Tensor
    if (weight is not None and weight.dim() == 2) or (bias is not None and bias.dim() == 2):
        if input.dim() > 2:
            return normalise_samples(
                lane, input, weight, bias, residual, mask, eps, activation, slope
            )
        wide = input.to(reference.accumulation_dtype(input.dtype))
        x_hat, proposal = normalise_by_batch(lane, wide, None, None, None, mask, eps, 0, 0.0)
        output = scale_samples(x_hat, weight, bias, residual, mask, activation, slope)
        return output.to(input.dtype), proposal
    if lane is not _EAGER:
        train = _train if lane is Lane.COMPILED else reference.batch_norm_train
        output, mean, var, _, count = train(
            input, weight, bias, residual, mask, eps, activation, slope
        )
        return output, (mean.detach(), var.detach(), count)

    if wants_grad(input, weight, bias, residual):
        statistics: list[Tensor] = []
        if inplace:
            output = apply_train_(statistics, input, weight, bias, mask, eps, activation, slope)
        else:
            output = apply_train(
                statistics, input, weight, bias, residual, mask, eps, activation, slope
            )
        mean, var, count = statistics
    elif inplace:
        with _BelowAutograd():
            mean, var, _, count = _train_(
                input, weight, bias, residual, mask, eps, activation, slope
            )
        _increment_version([input])
        output = input
    else:
        with _BelowAutograd():
            output, mean, var, _, count = _train(
                input, weight, bias, residual, mask, eps, activation, slope
            )

    return output, (mean, var, count)


def normalise_by(
    lane: Lane,
    mean: Tensor,
    var: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
    inplace: bool = False,
) -> Tensor:
    """Output by given statistics, which are constants: no gradient flows into them."""
    output: Tensor
    if (weight is not None and weight.dim() == 2) or (bias is not None and bias.dim() == 2):
        if input.dim() > 2:
            return normalise_samples_by(
                lane, mean, var, input, weight, bias, residual, mask, eps, activation, slope
            )
        wide = input.to(reference.accumulation_dtype(input.dtype))
        x_hat = normalise_by(lane, mean, var, wide, None, None, None, mask, eps, 0, 0.0)
        output = scale_samples(x_hat, weight, bias, residual, mask, activation, slope)
        return output.to(input.dtype)
    if lane is not _EAGER:
        return _normalise_traced(
            lane, input, mean, var, weight, bias, residual, mask, eps, activation, slope
        )

    if mean.dtype != (dtype := reference.accumulation_dtype(input.dtype)):
        mean, var = mean.to(dtype), var.to(dtype)

    if wants_grad(input, weight, bias, residual):
        if inplace:
            output = apply_eval_(input, mean, var, weight, bias, mask, eps, activation, slope)
        else:
            output = apply_eval(
                input, mean, var, weight, bias, residual, mask, eps, activation, slope
            )
    elif inplace:
        with _BelowAutograd():
            _eval_(input, mean, var, weight, bias, residual, mask, eps, activation, slope)
        _increment_version([input])
        output = input
    else:
        with _BelowAutograd():
            output = _eval(input, mean, var, weight, bias, residual, mask, eps, activation, slope)

    return output


def _normalise_traced(
    lane: Lane,
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
    if lane is Lane.EXPORTED and mask is None and input.dtype == mean.dtype:
        # By torch's own operator where it can, so that exporters recognise a batch norm.
        output = torch.nn.functional.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)
        if residual is not None:
            output = output + residual
        return reference.activate(output, activation, slope)

    evaluate = _eval if lane is Lane.COMPILED else reference.batch_norm_eval
    result: Tensor = evaluate(
        input, mean, var, weight, bias, residual, mask, eps, activation, slope
    )
    return result
