"""The same computation by torch's own layer functions, in any dtype: the peer, and its autograd.

In float64 it is also an independent judge of the reference.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.cases import Case


@dataclass(frozen=True)
class Result:
    """What a forward and a backward give. The gradients are None where nothing was asked."""

    output: Tensor
    mean: Tensor
    var: Tensor
    grad_input: Tensor
    grad_weight: Tensor | None
    grad_bias: Tensor | None
    grad_residual: Tensor | None


def peer(case: Case, *, training: bool = True) -> Result:
    """Forward and backward by ``F.batch_norm``, an addition and torch's activation."""
    x = case.input.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    params = [None if p is None else p.detach().clone().requires_grad_() for p in params_of(case)]
    mean, var = batch_moments(case)
    running = (None, None) if training else (case.running_mean, case.running_var)
    y = forward(case, x, *params, running=running)
    (y * 1.0).backward(case.grad)
    grads = [None if p is None else p.grad for p in params]
    return Result(y.detach(), mean, var, x.grad, *grads)


def params_of(case: Case) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return case.weight, case.bias, case.residual


def batch_moments(case: Case) -> tuple[Tensor, Tensor]:
    """Mean and biased variance as ``F.batch_norm`` commits them to its buffers."""
    channels = case.input.shape[1]
    mean = torch.zeros(channels, dtype=case.acc)
    var = torch.ones(channels, dtype=case.acc)
    x = real_positions(case.input, case.mask)
    n = x.numel() // channels
    if n < 2:
        flat = x.movedim(1, 0).flatten(1).to(case.acc)
        return flat.sum(1) / max(n, 1), torch.zeros(channels, dtype=case.acc)
    F.batch_norm(x.detach(), mean, var, None, None, True, 1.0, case.eps)
    return mean, var * ((n - 1) / n)


def real_positions(x: Tensor, mask: Tensor | None) -> Tensor:
    """The unpadded positions as rows ``(M, C)``, or x itself without a mask."""
    return x if mask is None else x.movedim(1, -1)[mask]


def forward(
    case: Case,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    running: tuple[Tensor | None, Tensor | None],
) -> Tensor:
    rows = real_positions(x, case.mask)
    if weight is None and bias is not None:
        weight = torch.ones_like(bias)
    if bias is None and weight is not None and x.dtype != weight.dtype:
        bias = torch.zeros_like(weight)
    # Below F.batch_norm, which refuses one value per channel.
    y = torch.batch_norm(rows, weight, bias, *running, running[0] is None, 0.0, case.eps, False)
    if residual is not None:
        y = y + real_positions(residual, case.mask)
    y = case.act(y)
    if case.mask is None:
        return y
    padded = torch.zeros_like(x).movedim(1, -1)
    return padded.masked_scatter(case.mask.unsqueeze(-1), y).movedim(-1, 1)


def preactivation(case: Case, *, training: bool = True) -> Tensor:
    """The argument of the activation in float64; zero at masked positions."""
    from tests.activations import ACTS

    wide = case.double()
    object.__setattr__(wide, "act", ACTS["identity"])
    running = (None, None) if training else (wide.running_mean, wide.running_var)
    with torch.no_grad():
        return forward(wide, wide.input, *params_of(wide), running=running)
