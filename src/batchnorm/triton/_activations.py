"""Activations and their derivatives in Triton, the formulas of ``batchnorm.reference``.

Everything computes in the accumulation dtype, which the callers cast to after each load. What the
language lacks (expm1, tanh) is written out, because a device library would not run in the
interpreter.
"""

import triton
import triton.language as tl

__all__ = ["activate", "activation_grad"]

_IDENTITY = tl.constexpr(0)
_RELU = tl.constexpr(1)
_RELU6 = tl.constexpr(2)
_LEAKY_RELU = tl.constexpr(3)
_SILU = tl.constexpr(4)
_GELU = tl.constexpr(5)
_GELU_TANH = tl.constexpr(6)
_HARDSWISH = tl.constexpr(7)
_ELU = tl.constexpr(8)
_SIGMOID = tl.constexpr(9)

_SQRT_HALF = tl.constexpr(0.7071067811865476)
_INV_SQRT_2PI = tl.constexpr(0.3989422804014327)
_SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)
_GELU_CUBIC = tl.constexpr(0.044715)
# |x| below which expm1 is its series: 0.5**15 / 15! is below the rounding of float64.
_SERIES = tl.constexpr(0.5)
_TERMS = tl.constexpr(14)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _expm1(x):
    series = x * 0 + 1
    for i in tl.static_range(_TERMS, 1, -1):
        series = 1 + series * x / i

    return tl.where(tl.abs(x) < _SERIES, x * series, tl.exp(x) - 1)


@triton.jit
def _tanh(x):
    down = _expm1(-2 * tl.abs(x))
    size = -down / (2 + down)

    return tl.where(x < 0, -size, size)


@triton.jit
def _gelu_bend(pre):
    # The interpreter wants the tensor on the left of a constant.
    return _tanh((pre + pre * pre * pre * _GELU_CUBIC) * _SQRT_2_OVER_PI)


@triton.jit
def activate(pre, CODE: tl.constexpr, SLOPE: tl.constexpr):
    """``activation(pre)``; a NaN stays one."""
    if CODE == _IDENTITY:
        y = pre
    elif CODE == _RELU:
        y = tl.where(pre <= 0, 0.0, pre).to(pre.dtype)
    elif CODE == _RELU6:
        y = tl.where(pre <= 0, 0.0, tl.where(pre >= 6, 6.0, pre)).to(pre.dtype)
    elif CODE == _LEAKY_RELU:
        y = tl.where(pre > 0, pre, SLOPE * pre)
    elif CODE == _SILU:
        y = pre * _sigmoid(pre)
    elif CODE == _GELU:
        y = 0.5 * pre * (1 + tl.erf(pre * _SQRT_HALF))
    elif CODE == _GELU_TANH:
        y = 0.5 * pre * (1 + _gelu_bend(pre))
    elif CODE == _HARDSWISH:
        ramp = tl.where(pre <= -3, 0.0, tl.where(pre >= 3, 1.0, (pre + 3) / 6)).to(pre.dtype)
        y = pre * ramp
    elif CODE == _ELU:
        y = tl.where(pre > 0, pre, SLOPE * _expm1(tl.where(pre > 0, pre * 0, pre)))
    elif CODE == _SIGMOID:
        y = _sigmoid(pre)
    else:
        y = _tanh(pre)

    return y


@triton.jit
def activation_grad(pre, CODE: tl.constexpr, SLOPE: tl.constexpr):
    """``activation'(pre)``, at kinks torch's."""
    if CODE == _RELU:
        d = tl.where(pre <= 0, 0.0, 1.0)
    elif CODE == _RELU6:
        d = tl.where((pre <= 0) | (pre >= 6), 0.0, 1.0)
    elif CODE == _LEAKY_RELU:
        d = tl.where(pre > 0, 1.0, tl.full(pre.shape, SLOPE, pre.dtype))
    elif CODE == _SILU:
        gate = _sigmoid(pre)
        d = gate * (1 + pre * (1 - gate))
    elif CODE == _GELU:
        cdf = 0.5 * (1 + tl.erf(pre * _SQRT_HALF))
        d = cdf + pre * tl.exp(-0.5 * pre * pre) * _INV_SQRT_2PI
    elif CODE == _GELU_TANH:
        bend = _gelu_bend(pre)
        steepness = (1 + pre * pre * (3 * _GELU_CUBIC)) * _SQRT_2_OVER_PI
        d = 0.5 * (1 + bend) + 0.5 * pre * (1 - bend * bend) * steepness
    elif CODE == _HARDSWISH:
        d = tl.where(pre <= -3, 0.0, tl.where(pre >= 3, 1.0, pre / 3 + 0.5))
    elif CODE == _ELU:
        d = tl.where(pre > 0, 1.0, SLOPE * tl.exp(tl.where(pre > 0, pre * 0, pre)))
    elif CODE == _SIGMOID:
        gate = _sigmoid(pre)
        d = gate * (1 - gate)
    else:
        bend = _tanh(pre)
        d = 1 - bend * bend

    return d.to(pre.dtype)
