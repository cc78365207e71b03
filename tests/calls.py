"""A case through the operators: forward, backward and phases, of kernels or of the oracle.

The oracle is ``batchnorm.reference`` on the same numbers in float64; its functions have the
operators' names and arguments, so one call serves both.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from batchnorm import reference
from tests.cases import Case


@dataclass(frozen=True)
class Forward:
    """Outputs of ``batch_norm_train``."""

    output: Tensor
    mean: Tensor
    var: Tensor
    invstd: Tensor
    count: Tensor


@dataclass(frozen=True)
class Backward:
    """Outputs of a fused backward."""

    grad_input: Tensor
    grad_weight: Tensor
    grad_bias: Tensor
    grad_residual: Tensor


def train(k: Any, case: Case) -> Forward:
    x, w, b, r, m = case.input, case.weight, case.bias, case.residual, case.mask
    return Forward(*k.batch_norm_train(x, w, b, r, m, case.eps, *case.code))


def evaluate(k: Any, case: Case) -> Tensor:
    x, w, b, r, m = case.input, case.weight, case.bias, case.residual, case.mask
    running = case.running_mean, case.running_var
    return k.batch_norm_eval(x, *running, w, b, r, m, case.eps, *case.code)


def wants_grad_residual(case: Case) -> bool:
    """Identity without a mask returns the incoming gradient itself, outside the operator."""
    return case.residual is not None and not (case.act.name == "identity" and case.mask is None)


def saved(case: Case, output: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What the backward reads besides the input: ``(residual, output)``, one of them or none."""
    if case.residual is None or case.act.name == "identity":
        return None, None
    if case.act.keeps_output and output is not None:
        return None, output
    return case.residual, None


def backward(
    k: Any,
    case: Case,
    mean: Tensor,
    invstd: Tensor,
    output: Tensor | None = None,
    *,
    training: bool = True,
) -> Backward:
    fn = k.batch_norm_train_backward if training else k.batch_norm_eval_backward
    args = (case.grad, case.input, case.weight, case.bias, mean, invstd, *saved(case, output))
    return Backward(*fn(*args, case.mask, *case.code, wants_grad_residual(case)))


@dataclass(frozen=True)
class Oracle:
    """Forward and backward of a case in float64 by the reference."""

    forward: Forward
    backward: Backward


def oracle_train(case: Case) -> Oracle:
    wide = case.double()
    out = train(reference, wide)
    return Oracle(out, backward(reference, wide, out.mean, out.invstd))


def oracle_eval(case: Case) -> tuple[Tensor, Backward]:
    wide = case.double()
    invstd = (wide.running_var + wide.eps).rsqrt()
    grads = backward(reference, wide, wide.running_mean, invstd, training=False)
    return evaluate(reference, wide), grads


def is_channels_last(t: Tensor) -> bool:
    """Whether the channel is the fastest dimension in memory."""
    return t.ndim > 2 and t.movedim(1, -1).is_contiguous()


def same_layout(result: Tensor, like: Tensor) -> bool:
    """The documented layout rule: channels-last stays, all else comes out contiguous."""
    if is_channels_last(like) and not like.is_contiguous():
        return is_channels_last(result)
    return result.is_contiguous()
