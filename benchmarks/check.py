r"""Equality before time: every side against float64, ours within twice torch's error.

The cotangent is zero where the argument of a ReLU is so close to zero that rounding alone decides
its sign: there two right answers differ. Errors are maxima over elements, relative to the largest
element of the float64 result. What is allowed is

.. math:: 2 \cdot \text{error of eager torch in the same dtype} + \text{floor},

floor = 8 roundings of the result's dtype; for a gradient of weight or bias, which is a sum of m
random terms and so is about :math:`\sqrt m` smaller than the sum of their sizes, :math:`\sqrt m`
times that.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.cases import Case, Tensors
from benchmarks.contenders import Contender, eager, float64

__all__ = ["Reference", "allowed", "compare", "excess", "limits"]

_ROUNDINGS = 8


class Reference:
    """Float64 results of one row, and the errors of eager torch beside which ours are judged."""

    def __init__(self, case: Case, tensors: Tensors):
        self.case = case
        judge = float64(case, tensors)
        if case.form != "plain":
            _zero_near_kink(case, tensors, judge)
        self.expected = _results(judge, tensors.grad.double())
        self.eager_errors = self.errors(eager(case, tensors), tensors.grad)

    def errors(self, side: Contender, grad: Tensor) -> dict[str, float]:
        """Largest relative error of each result of one training step."""
        return compare(_results(side, grad), self.expected)

    def broken(self, errors: Mapping[str, float]) -> str:
        """Which results exceed their limit, in words; empty when none does."""
        return excess(errors, limits(self.case, self.eager_errors))


def limits(case: Case, eager_errors: Mapping[str, float]) -> dict[str, float]:
    """Allowed error of each result."""
    numbers = torch.Size(case.shape).numel() // case.shape[1]
    return allowed(eager_errors, numbers, getattr(torch, case.dtype))


def allowed(
    peer_errors: Mapping[str, float], numbers: int, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Allowed error of each result, beside a peer's; ``numbers`` is m of the gradients' sums."""
    wide = _ROUNDINGS * torch.finfo(torch.float32).eps
    narrow = _ROUNDINGS * torch.finfo(dtype).eps
    floors = {"grad_weight": wide * math.sqrt(numbers), "grad_bias": wide * math.sqrt(numbers)}
    floors |= {"running_mean": wide, "running_var": wide}
    return {name: 2 * error + floors.get(name, narrow) for name, error in peer_errors.items()}


def excess(errors: Mapping[str, float], limit: Mapping[str, float]) -> str:
    """Which errors exceed their limit, in words; empty when none does."""
    bad = [
        f"{name}: error {error:.2e}, allowed {limit[name]:.2e}"
        for name, error in errors.items()
        if not error <= limit[name]
    ]
    return "; ".join(bad)


def compare(results: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """``max |a - b| / max |b|`` of each pair; inf where one of them is not finite."""
    return {name: _error(results[name], right) for name, right in expected.items()}


def _error(result: Tensor, expected: Tensor) -> float:
    if result.shape != expected.shape:
        return math.inf
    scale = expected.abs().max().item() or 1.0
    error = (result.double() - expected).abs_().max().item() / scale
    return error if math.isfinite(error) else math.inf


def _results(side: Contender, grad: Tensor) -> dict[str, Tensor]:
    """One training step of a side whose running statistics are fresh."""
    side.layer.reset_running_stats()
    output = side.forward()
    names = ["grad_input", *["grad_residual"] * (len(side.arguments) - 1)]
    names += ["grad_weight", "grad_bias"]
    gradients = torch.autograd.grad(output, side.gradient_of, grad)
    results = dict(zip(names, gradients, strict=True))
    results["output"] = output.detach()
    results["running_mean"] = side.layer.running_mean.clone()
    results["running_var"] = side.layer.running_var.clone()
    return results


@torch.no_grad()
def _zero_near_kink(case: Case, tensors: Tensors, judge: Contender) -> None:
    """Zero the cotangent where the ReLU's argument is within rounding of zero."""
    normalised = judge.layer(judge.arguments[0])
    size = normalised.abs()
    argument = normalised
    if tensors.residual is not None:
        residual = judge.arguments[1]
        argument = normalised + residual
        size = size + residual.abs()
    rounding = 4 * torch.finfo(tensors.x.dtype).eps * size
    rounding += 512 * torch.finfo(torch.float32).eps
    tensors.grad.masked_fill_(argument.abs() < rounding, 0)
