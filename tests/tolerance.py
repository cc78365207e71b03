"""How far a result may be from the float64 oracle: twice as far as torch, plus derived rounding.

Nothing here is a literal like 1e-3. The floor of each result is the first-order error of computing
it in its own precision: one rounding per operation that any implementation has to make (the stored
mean, the difference from it, the sum of n terms by blocks, the final rounding to the dtype).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.cases import Case

#: Roundings on the way of one element through one kernel: subtract, scale, shift, add, activate.
STEPS = 6


def ulp(dtype: torch.dtype) -> float:
    """Distance from 1 to the next number of this dtype."""
    return torch.finfo(dtype).eps


def by_channel(t: Tensor) -> Tensor:
    """``(N, C, *)`` as ``(C, N·prod(*))``; ``(C,)`` as ``(C, 1)``."""
    return t.unsqueeze(1) if t.ndim == 1 else t.movedim(1, 0).flatten(1)


def largest(t: Tensor) -> Tensor:
    """Largest magnitude of each channel."""
    rows = by_channel(t.detach().double()).abs()
    return rows.amax(1) if rows.shape[1] else rows.new_zeros(rows.shape[0])


@dataclass(frozen=True)
class Floors:
    """First-order rounding error of every result of one case, per channel."""

    mean: Tensor
    var: Tensor
    output: Tensor
    kink: Tensor
    grad_input: Tensor
    grad_weight: Tensor
    grad_bias: Tensor
    grad_residual: Tensor


def floors(case: Case, *, training: bool = True) -> Floors:
    """The floors of a case: float64 arithmetic on its own numbers, nothing tuned."""
    wide = case.double()
    u, u_out, act = ulp(case.acc), ulp(case.input.dtype), case.act
    shape = (1, -1) + (1,) * (wide.input.ndim - 2)
    real = case.full_mask.unsqueeze(1)
    n = max(int(case.full_mask.sum()), 1)
    terms = math.log2(n) + STEPS

    def total(t: Tensor) -> Tensor:
        return by_channel(torch.where(real, t, 0.0)).abs().sum(1)

    x = torch.where(real, wide.input, 0.0)
    mean = by_channel(x).sum(1) / n
    var = total((x - mean.view(shape)) ** 2) / n
    e_mean = u * (mean.abs() + terms * total(x - mean.view(shape)) / n)
    e_var = terms * u * var + e_mean**2
    if not training:
        mean, var = wide.running_mean, wide.running_var
    weight = torch.ones_like(mean) if wide.weight is None else wide.weight.abs()
    bias = torch.zeros_like(mean) if wide.bias is None else wide.bias.abs()
    scale = (var + case.eps).rsqrt()
    x_hat = torch.where(real, (x - mean.view(shape)) * scale.view(shape), 0.0)
    x_max = largest(x_hat)
    e_norm = e_mean if training else u * mean.abs()
    e_scale = e_var / (2 * (var + case.eps)) if training else 0 * var
    e_hat = e_norm * scale + STEPS * u * x_max + e_scale * x_max
    extra = 0.0 if wide.residual is None else largest(torch.where(real, wide.residual, 0.0))
    pre_max = weight * x_max + bias + extra
    e_pre = weight * e_hat + STEPS * u * pre_max
    lip = max(1.0, act.lipschitz)
    grow = lip * (1.0 + act.curvature)

    g = torch.where(real, wide.grad, 0.0) * lip
    e_g = act.curvature * e_pre + STEPS * u * grow
    sum_g, sum_gx = total(g), total(g * x_hat)
    e_sum = sum_g * (e_g + terms * u)
    e_sum_x = sum_g * e_hat + total(g * x_hat) * (e_g + terms * u)
    g_max = largest(g)
    means = (sum_g + x_max * sum_gx) / n
    e_dx = g_max * e_g + (e_sum + x_max * e_sum_x + e_hat * sum_gx) / n
    whole = g_max + (means if training else 0.0)
    e_dx = (e_dx if training else g_max * e_g) + (STEPS * u + e_scale) * whole
    return Floors(
        # Differences and squares below the smallest normal number underflow.
        mean=e_mean + torch.finfo(case.acc).tiny,
        var=e_var + torch.finfo(case.acc).tiny,
        output=lip * e_pre + u_out * lip * pre_max,
        # A stored output decides the side of a kink after rounding to its dtype.
        kink=2 * (e_pre + u_out * (pre_max.clamp(max=6.0) + 1.0) + u_out * extra),
        grad_input=weight * scale * (e_dx + u_out * whole),
        grad_weight=e_sum_x,
        grad_bias=e_sum,
        grad_residual=g_max * (e_g + u_out),
    )


def off_kinks(case: Case, pre: Tensor, *, training: bool = True) -> Case:
    """The case with a cotangent of zero where rounding may decide the side of a kink."""
    if not case.act.kinks:
        return case
    shape = (1, -1) + (1,) * (pre.ndim - 2)
    margin = floors(case, training=training).kink.view(shape)
    near = torch.zeros_like(pre, dtype=torch.bool)
    for kink in case.act.kinks:
        near |= (pre - kink).abs() <= margin
    grad = case.grad.clone(memory_format=torch.preserve_format)
    return case.with_grad(grad.masked_fill_(near, 0.0))


def errors(result: Tensor, oracle: Tensor) -> Tensor:
    """Largest deviation per channel; NaN where the oracle has a number and the result has none."""
    delta = by_channel(result.detach().double() - oracle.detach().double()).abs()
    return delta.amax(1) if delta.shape[1] else delta.new_zeros(delta.shape[0])


def assert_within(
    result: Tensor, oracle: Tensor, peer: Tensor | None, floor: Tensor, what: str
) -> None:
    """``err(result) <= 2 * err(peer) + floor`` in every channel."""
    assert result.shape == oracle.shape, f"{what}: shape {result.shape}, not {oracle.shape}"
    ours = errors(result, oracle)
    theirs = torch.zeros_like(ours) if peer is None else errors(peer, oracle).nan_to_num(0.0)
    allowed = 2 * theirs + floor.double()
    bad = ~(ours <= allowed)
    if bad.any():
        c = int(bad.nonzero()[0])
        raise AssertionError(
            f"{what}: {int(bad.sum())} of {len(bad)} channels too far from the oracle. "
            f"Channel {c}: error {ours[c]:.3g}, torch {theirs[c]:.3g}, floor {floor[c]:.3g}"
        )


def assert_same(result: Tensor, expected: Tensor, what: str = "result") -> None:
    """Equal up to the roundings of a C-sized computation in the result's dtype."""
    scale = expected.detach().abs().double().max() if expected.numel() else torch.tensor(0.0)
    bound = STEPS * ulp(result.dtype) * float(scale)
    torch.testing.assert_close(
        result, expected.to(result.dtype), rtol=0.0, atol=bound, equal_nan=True,
        msg=lambda text: f"{what}: {text}",
    )  # fmt: skip
