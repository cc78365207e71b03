"""The arithmetic of folding: a scale and a shift into the layer before or behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from ._affine import Affine

__all__ = ["Kernel", "base_of", "has_own_weight", "is_target", "why_not_behind", "why_not_mixed"]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TARGETS = (*_CONVS, *_TRANSPOSED, nn.Linear)
_OPTIONS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")


def base_of(module: nn.Module) -> type[nn.Module]:
    """The class of a layer, under its parametrizations."""
    cls = type(module)
    return cls.__mro__[1] if parametrize.is_parametrized(module) else cls


def is_target(module: nn.Module | None) -> bool:
    """Whether scale and shift can be folded into this layer; subclasses may compute otherwise."""
    return module is not None and base_of(module) in _TARGETS and "forward" not in module.__dict__


def has_own_weight(layer: nn.Module) -> bool:
    """Whether its weight is a parameter, not what a hook of the old kind puts there."""
    return "weight" in layer._parameters or parametrize.is_parametrized(layer, "weight")


@dataclass(frozen=True)
class Kernel:
    """Weight and bias of a layer in float64, and how its weight is laid out.

    Args:
        layer: a convolution, transposed convolution or linear layer.
        weight: ``(out, in / groups, *)``; of transposed ones ``(in, out / groups, *)``.
        bias: ``(out,)``.
    """

    layer: Any
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: Any) -> Kernel:
        """The kernel of a layer as it is."""
        weight = layer.weight.detach().double()
        if layer.bias is None:
            size = _by_outputs(layer, weight).shape[0]
            return cls(layer, weight, weight.new_zeros(size))

        return cls(layer, weight, layer.bias.detach().double())

    def then(self, affine: Affine) -> Kernel:
        """The layer followed by a scale and shift; see :func:`why_not_mixed`."""
        weight, bias = _by_outputs(self.layer, self.weight), self.bias
        if affine.mix is not None:
            size = affine.mix.shape[-1]
            weight = torch.einsum("gij,gj...->gi...", affine.mix, weight.unflatten(0, (-1, size)))
            weight = weight.flatten(0, 1)
            bias = (affine.mix @ bias.view(-1, size, 1)).flatten()
        weight = weight * _column(affine.scale, weight)

        return self._with(_from_outputs(self.layer, weight), bias * affine.scale + affine.shift)

    def after(self, affine: Affine) -> Kernel:
        """The layer behind a scale and shift; see :func:`why_not_behind`."""
        # (groups, out / groups, in / groups, *), by groups of the layer
        groups = getattr(self.layer, "groups", 1)
        weight = _by_outputs(self.layer, self.weight).unflatten(0, (groups, -1)).transpose(1, 2)
        inputs = weight.flatten(0, 1)
        offset = (inputs * _column(affine.shift, inputs)).view(weight.shape)
        bias = self.bias + offset.sum((1, *range(3, offset.dim()))).flatten()
        inputs = inputs * _column(affine.scale, inputs)
        if affine.mix is not None:
            size = affine.mix.shape[-1]
            inputs = torch.einsum("gij,gi...->gj...", affine.mix, inputs.unflatten(0, (-1, size)))
        outputs = inputs.reshape(weight.shape).transpose(1, 2).flatten(0, 1)

        return self._with(_from_outputs(self.layer, outputs), bias)

    def _with(self, weight: Tensor, bias: Tensor) -> Kernel:
        return Kernel(self.layer, weight, bias)

    def made(self) -> nn.Module:
        """A new layer with this weight and bias, on the device and in the dtype of the old."""
        old = self.layer.weight
        new = _empty_like(self.layer)
        grad = old.requires_grad
        for name, value in (("weight", self.weight), ("bias", self.bias)):
            value = value.to(device=old.device, dtype=old.dtype)
            if name == "weight":  # channels-last stays
                value = torch.empty_like(old, requires_grad=False).copy_(value)
            setattr(new, name, nn.Parameter(value, requires_grad=grad))
        new.train(self.layer.training)

        return new


def why_not_behind(layer: Any, affine: Affine) -> str:
    """Why a shift in front of the layer is no shift behind it; empty if it is one."""
    if bool((affine.shift == 0).all()) or isinstance(layer, nn.Linear):
        return ""
    if isinstance(layer, _ConvTransposeNd):
        sizes = (*layer.kernel_size, *layer.stride)
        if set(sizes) == {1} and set(layer.output_padding) == {0}:
            return ""
        return "of a transposed convolution not every output sees the same taps"
    if layer.padding_mode == "zeros" and any(layer._reversed_padding_repeated_twice):
        return "its shift would be missing in the zero padding"

    return ""


def why_not_mixed(layer: Any, affine: Affine, *, out: bool) -> str:
    """Why the layer's groups do not hold whole groups of whitened channels; empty if they do."""
    groups = getattr(layer, "groups", 1)
    if affine.mix is None or groups == 1:
        return ""
    channels = layer.out_channels if out else layer.in_channels
    if channels // groups % affine.mix.shape[-1] == 0:
        return ""

    return f"groups of {channels // groups} channels divide what is whitened together"


def _by_outputs(layer: Any, weight: Tensor) -> Tensor:
    """``(out, in / groups, *)``, whichever way the layer lays its weight out."""
    if not isinstance(layer, _ConvTransposeNd):
        return weight

    groups: Tensor = weight.unflatten(0, (layer.groups, -1))

    return groups.transpose(1, 2).flatten(0, 1)


def _from_outputs(layer: Any, weight: Tensor) -> Tensor:
    """Back to the layer's own way."""
    return _by_outputs(layer, weight)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One value for each entry of the first dimension."""
    return values.view(-1, *(1,) * (like.dim() - 1))


def _empty_like(layer: Any) -> nn.Module:
    """A layer of the same configuration, with bias and without values."""
    base: Any = base_of(layer)
    if not isinstance(layer, _ConvNd):
        return nn.Linear(layer.in_features, layer.out_features, device="meta")

    options = {name: getattr(layer, name) for name in (*_OPTIONS, "groups", "padding_mode")}
    if isinstance(layer, _ConvTransposeNd):
        options["output_padding"] = layer.output_padding

    return base(**options, device="meta")  # type: ignore[no-any-return]
