"""Which way a call goes: eager operator, compiled operator, or plain torch operators.

| situation                                  | what runs                                           |
|--------------------------------------------|-----------------------------------------------------|
| eager, no gradient wanted                  | the operator                                        |
| eager                                      | the operator under a plain autograd function        |
| torch.compile                              | the operator, traced with its registered derivative |
| torch.func (vmap, grad, jvp), forward mode | ``batchnorm.reference``: transforms follow it       |
| torch.export, torch.jit.trace              | ``reference``: the program needs no library         |
| a tensor subclass                          | ``reference``: it knows torch's operators only      |
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import reference
from ._functions import apply_eval, apply_eval_, apply_train, apply_train_
from ._schemas import NAMESPACE

__all__ = ["normalise_by", "normalise_by_batch", "only_plain_torch", "wants_grad"]

_ops = getattr(torch.ops, NAMESPACE)
_train = _ops.batch_norm_train.default
_train_ = _ops.batch_norm_train_.default
_eval = _ops.batch_norm_eval.default
_eval_ = _ops.batch_norm_eval_.default
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_functorch_active = torch._C._are_functorch_transforms_active
_tracing_state = torch._C._get_tracing_state
_increment_version = torch._C._increment_version
_PLAIN_TYPES = (Tensor, torch.nn.Parameter)

# output, mean, var, count
Normalised = tuple[Tensor, Tensor, Tensor, Tensor]


def only_plain_torch(input: Tensor) -> bool:
    """Whether something that follows only torch's own operators looks at this eager call."""
    return (
        _functorch_active()
        or forward_ad._current_level >= 0
        or _tracing_state() is not None
        or type(input) not in _PLAIN_TYPES
    )


def wants_grad(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None
) -> bool:
    """Whether a backward may come."""
    return torch.is_grad_enabled() and (
        input.requires_grad
        or (weight is not None and weight.requires_grad)
        or (bias is not None and bias.requires_grad)
        or (residual is not None and residual.requires_grad)
    )


def normalise_by_batch(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
    inplace: bool = False,
) -> Normalised:
    """``batch_norm_train`` by the right lane; the statistics come detached.

    ``inplace`` permits to overwrite the input; lanes that cannot, do not.
    """
    args = (input, weight, bias, residual, mask, eps, activation, slope)
    if torch.compiler.is_compiling():
        train = reference.batch_norm_train if torch.compiler.is_exporting() else _train
        output, mean, var, _, count = train(*args)
        return output, mean.detach(), var.detach(), count

    if only_plain_torch(input):
        output, mean, var, _, count = reference.batch_norm_train(*args)
        return output, mean.detach(), var.detach(), count

    if inplace:
        return _by_batch_inplace(*args)

    if wants_grad(input, weight, bias, residual):
        output, mean, var, _, count = apply_train(*args)
    else:
        with _BelowAutograd():
            output, mean, var, _, count = _train(*args)

    return output, mean, var, count


def _by_batch_inplace(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> Normalised:
    if wants_grad(input, weight, bias, residual):
        statistics: list[Tensor] = []
        output = apply_train_(statistics, input, weight, bias, mask, eps, activation, slope)
        mean, var, count = statistics
        return output, mean, var, count

    with _BelowAutograd():
        mean, var, _, count = _train_(input, weight, bias, residual, mask, eps, activation, slope)
    _increment_version([input])

    return input, mean, var, count


def normalise_by(
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
    """``batch_norm_eval`` by the right lane; ``mean`` and ``var`` are constants in eager mode."""
    args = (input, mean, var, weight, bias, residual, mask, eps, activation, slope)
    if torch.compiler.is_compiling():
        return _exported_eval(*args) if torch.compiler.is_exporting() else _eval(*args)

    if only_plain_torch(input):
        return reference.batch_norm_eval(*args)

    if mean.dtype != (dtype := reference.accumulation_dtype(input.dtype)):
        mean, var = mean.to(dtype), var.to(dtype)

    if inplace:
        return _by_inplace(*args)

    output: Tensor
    if wants_grad(input, weight, bias, residual):
        output = apply_eval(input, mean, var, weight, bias, residual, mask, eps, activation, slope)
    else:
        with _BelowAutograd():
            output = _eval(input, mean, var, weight, bias, residual, mask, eps, activation, slope)

    return output


def _by_inplace(
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
    if wants_grad(input, weight, bias, residual):
        output: Tensor = apply_eval_(input, mean, var, weight, bias, mask, eps, activation, slope)
        return output

    with _BelowAutograd():
        _eval_(input, mean, var, weight, bias, residual, mask, eps, activation, slope)
    _increment_version([input])

    return input


def _exported_eval(
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
    """By torch's own batch_norm where it can, so that exporters recognise it."""
    if mask is not None or input.dtype != mean.dtype:
        return reference.batch_norm_eval(
            input, mean, var, weight, bias, residual, mask, eps, activation, slope
        )

    output = torch.nn.functional.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)
    if residual is not None:
        output = output + residual

    return reference.activate(output, activation, slope)
