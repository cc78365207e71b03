"""Convolutions by a weight that is scaled at every call, and scaled again in the backward."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ..ops import Lane, choose_lane

__all__ = ["Geometry", "convolve", "scaled_convolution"]

# stride, padding, dilation, transposed, output_padding, groups; None for a linear layer
Geometry = tuple[Sequence[int], Sequence[int], Sequence[int], bool, Sequence[int], int] | None

_CONVOLUTIONS: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED: tuple[Any, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def scaled_convolution(
    input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, geometry: Geometry
) -> Tensor:
    """``convolve`` by ``weight * scale``, which is not kept for backward.

    A network's weights can be larger than all that it keeps of a batch.

    Args:
        input: batched.
        weight: of the layer.
        scale: broadcasts to the weight.
        bias: ``(out,)``.
        geometry: of the convolution.
    """
    eager = torch.is_grad_enabled() and choose_lane(input) is Lane.EAGER
    if eager and not torch.is_autocast_enabled(input.device.type):
        output: Tensor = _apply(input, weight, scale, bias, geometry)
        return output

    return convolve(input, _product(weight, scale), bias, geometry)


def convolve(input: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry) -> Tensor:
    """The linear layer or convolution of this geometry."""
    if geometry is None:
        return F.linear(input, weight, bias)

    # By the functions that autocast and exporters know.
    stride, padding, dilation, transposed, output_padding, groups = geometry
    rank = len(stride) - 1
    if transposed:
        shape = stride, padding, output_padding, groups, dilation
        output: Tensor = _TRANSPOSED[rank](input, weight, bias, *shape)
    else:
        output = _CONVOLUTIONS[rank](input, weight, bias, stride, padding, dilation, groups)

    return output


def _product(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight * scale).to(weight.dtype)


class _Scaled(Function):
    """Its backward is made of operators that can be differentiated again."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(input, weight, scale)
        ctx.geometry = geometry

        return convolve(input, _product(weight, scale), bias, geometry)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        input, weight, scale = ctx.saved_tensors
        needs_input, needs_weight, needs_scale, needs_bias, _ = ctx.needs_input_grad
        wanted = needs_input, needs_weight or needs_scale, needs_bias
        product = _product(weight, scale)
        if ctx.geometry is None:
            grads = _linear_backward(grad_output, input, product, wanted)
        else:
            size = [grad_output.shape[1]]
            grads = torch.ops.aten.convolution_backward(
                grad_output, input, product, size, *ctx.geometry, wanted
            )
        grad_input, grad_product, grad_bias = grads

        grad_weight = grad_scale = None
        if needs_weight and grad_product is not None:
            grad_weight = _product(grad_product, scale)
        if needs_scale and grad_product is not None:
            grad_scale = (grad_product * weight.to(scale.dtype)).sum_to_size(scale.shape)

        return grad_input, grad_weight, grad_scale, grad_bias, None


_apply: Any = _Scaled.apply


def _linear_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    needs_input, needs_weight, needs_bias = wanted
    rows = grad_output.flatten(0, -2)

    return (
        grad_output @ weight if needs_input else None,
        rows.T @ input.flatten(0, -2) if needs_weight else None,
        rows.sum(0) if needs_bias else None,
    )
