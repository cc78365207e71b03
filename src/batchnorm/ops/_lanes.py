"""Which way a call goes: eager operator, compiled operator, or plain torch operators."""

from enum import Enum

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["Lane", "choose_lane", "wants_grad"]

_functorch_active = torch._C._are_functorch_transforms_active
_transforms = torch._C._functorch.get_dynamic_layer_stack_depth
_is_tracing = torch._C._is_tracing
_is_compiling = torch.compiler.is_compiling
_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


class Lane(Enum):
    """The ways of a call."""

    EAGER = "the operator, under a plain autograd function if a gradient is wanted"
    COMPILED = "the operator, traced by torch.compile with its registered derivative"
    PLAIN = "torch's own operators, by batchnorm.reference"
    EXPORTED = "torch's own operators, so that the program needs no library of ours"


_EAGER, _PLAIN = Lane.EAGER, Lane.PLAIN


def choose_lane(input: Tensor) -> Lane:
    """The way of this call.

    Plain are those that only torch's own operators can follow: ``torch.func`` (vmap, grad, jvp),
    forward-mode derivatives and tensor subclasses. ``torch.jit.trace`` is an export.
    """
    if _is_compiling():
        if torch.compiler.is_exporting():
            return Lane.EXPORTED
        return Lane.COMPILED if _transforms() == 0 else Lane.PLAIN

    if _functorch_active() or forward_ad._current_level >= 0 or type(input) not in _PLAIN_TYPES:
        return _PLAIN

    return Lane.EXPORTED if _is_tracing() else _EAGER


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
