"""Activations and their derivatives, written out.

The derivative at a kink is torch's: relu'(0) = 0, relu6'(0) = relu6'(6) = 0,
leaky_relu'(0) = slope. Each is itself differentiable, which double backward needs.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .._types import Activation

__all__ = ["activate", "activation_grad"]

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715


def activate(pre: Tensor, activation: int, slope: float) -> Tensor:
    """``activation(pre)``; ``slope`` is that of leaky_relu, or the alpha of elu."""
    match activation:
        case Activation.IDENTITY:
            return pre
        case Activation.RELU:
            return F.relu(pre)
        case Activation.RELU6:
            return pre.clamp(0, 6)
        case Activation.LEAKY_RELU:
            return torch.where(pre > 0, pre, slope * pre)
        case Activation.SILU:
            return pre * pre.sigmoid()
        case Activation.GELU:
            return F.gelu(pre)
        case Activation.GELU_TANH:
            return F.gelu(pre, approximate="tanh")
        case Activation.HARDSWISH:
            return pre * ((pre + 3).clamp(0, 6) / 6)
        case Activation.ELU:
            return torch.where(pre > 0, pre, slope * pre.clamp(max=0).expm1())
        case Activation.SIGMOID:
            return pre.sigmoid()
        case Activation.TANH:
            return pre.tanh()
    raise ValueError(f"activation code {activation} is unknown")


def activation_grad(pre: Tensor, activation: int, slope: float) -> Tensor:
    """``activation'(pre)``."""
    one, zero = torch.ones_like(pre), torch.zeros_like(pre)
    match activation:
        case Activation.IDENTITY:
            return one
        case Activation.RELU:
            return torch.where(pre <= 0, zero, one)
        case Activation.RELU6:
            return torch.where((pre <= 0) | (pre >= 6), zero, one)
        case Activation.LEAKY_RELU:
            return torch.where(pre > 0, one, slope * one)
        case Activation.SILU:
            gate = pre.sigmoid()
            return gate * (1 + pre * (1 - gate))
        case Activation.GELU:
            cdf = 0.5 * (1 + (pre * math.sqrt(0.5)).erf())
            return cdf + pre * (-0.5 * pre * pre).exp() / math.sqrt(2 * math.pi)
        case Activation.GELU_TANH:
            bend = (_SQRT_2_OVER_PI * (pre + _GELU_CUBIC * pre**3)).tanh()
            steepness = _SQRT_2_OVER_PI * (1 + 3 * _GELU_CUBIC * pre * pre)
            return 0.5 * (1 + bend) + 0.5 * pre * (1 - bend * bend) * steepness
        case Activation.HARDSWISH:
            ramp = torch.where(pre <= -3, zero, pre / 3 + 0.5)
            return torch.where(pre >= 3, one, ramp)
        case Activation.ELU:
            return torch.where(pre > 0, one, slope * pre.clamp(max=0).exp())
        case Activation.SIGMOID:
            gate = pre.sigmoid()
            return gate * (1 - gate)
        case Activation.TANH:
            bend = pre.tanh()
            return 1 - bend * bend
    raise ValueError(f"activation code {activation} is unknown")
