"""Layers that take a frozen batch norm into their weight anew at every call."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from ..layers._batchnorm import _BatchNorm
from ._affine import finish
from ._scaled import Geometry, scaled_convolution

__all__ = ["FoldedBatchNorm", "fold_on_the_fly", "folds", "unfold"]


class FoldedBatchNorm(_BatchNorm):
    """A frozen batch norm whose scale and shift are in the weight of the layer before it.

    It keeps its parameters and statistics, which that layer reads, and its ``state_dict``.
    """

    # In lists, so that they are not children.
    _layer: list[Any]
    _class: type[_BatchNorm]

    def forward(  # type: ignore[override]
        self, input: Tensor, residual: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Add the residual, activate, clear padding; arguments as for the batch norm."""
        return finish(input, residual, mask, self.activation, self.slope)

    def extra_repr(self) -> str:
        """The layer's own text, and that it is folded."""
        return f"{super().extra_repr()}, folded=True"


class _Folding:
    """The weight and bias with the batch norm in them; gradients flow to both layers."""

    _norm: list[FoldedBatchNorm]

    def _scale_and_bias(self: Any) -> tuple[Tensor, Tensor]:
        """What the weight is multiplied by, in a shape that fits, and the bias."""
        (norm,) = self._norm
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        bias = shift if self.bias is None else self.bias * scale + shift

        return self._by_outputs(scale), bias.to(self.weight.dtype)

    def _scaled(self: Any, input: Tensor, geometry: Geometry) -> Tensor:
        scale, bias = self._scale_and_bias()
        return scaled_convolution(input, self.weight, scale, bias, geometry)

    def _by_outputs(self: Any, scale: Tensor) -> Tensor:
        """The scale in the shape of the weight's output channels."""
        weight: Tensor = self.weight
        if not isinstance(self, _ConvTransposeNd):
            return scale.view(-1, *(1,) * (weight.dim() - 1))

        groups: int = self.groups
        by_group = scale.view(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
        return by_group.flatten(0, 1).view(*weight.shape[:2], *(1,) * (weight.dim() - 2))

    def extra_repr(self: Any) -> str:
        """The layer's own text, and that a batch norm is in its weight."""
        own: str = super().extra_repr()  # type: ignore[misc]
        return f"{own}, folds={self._norm[0]._class.__name__}"


class _FoldingConv(_Folding):
    def forward(self: Any, input: Tensor) -> Tensor:
        """The convolution, with the batch norm behind it."""
        before = self._reversed_padding_repeated_twice
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, before, mode=self.padding_mode), (0,) * len(self.stride)
        elif isinstance(padding, str):  # "same" may be one more on the right than on the left
            input, padding = F.pad(input, before), (0,) * len(self.stride)
        none = (0,) * len(self.stride)
        output: Tensor = self._scaled(
            input, (self.stride, padding, self.dilation, False, none, self.groups)
        )

        return output


class _FoldingTransposed(_Folding):
    def forward(self: Any, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The transposed convolution, with the batch norm behind it."""
        sizes = self.stride, self.padding, self.kernel_size
        more = self._output_padding(
            input, output_size, *sizes, len(self.kernel_size), self.dilation
        )
        output: Tensor = self._scaled(
            input, (self.stride, self.padding, self.dilation, True, more, self.groups)
        )

        return output


class FoldingLinear(_Folding, nn.Linear):
    """A linear layer with the frozen batch norm behind it."""

    def forward(self, input: Tensor) -> Tensor:
        """The linear layer, with the batch norm behind it."""
        return self._scaled(input, None)


class FoldingConv1d(_FoldingConv, nn.Conv1d):
    """A convolution with the frozen batch norm behind it."""


class FoldingConv2d(_FoldingConv, nn.Conv2d):
    """A convolution with the frozen batch norm behind it."""


class FoldingConv3d(_FoldingConv, nn.Conv3d):
    """A convolution with the frozen batch norm behind it."""


class FoldingConvTranspose1d(_FoldingTransposed, nn.ConvTranspose1d):
    """A transposed convolution with the frozen batch norm behind it."""


class FoldingConvTranspose2d(_FoldingTransposed, nn.ConvTranspose2d):
    """A transposed convolution with the frozen batch norm behind it."""


class FoldingConvTranspose3d(_FoldingTransposed, nn.ConvTranspose3d):
    """A transposed convolution with the frozen batch norm behind it."""


_FOLDING: dict[type, type[_Folding]] = {
    nn.Linear: FoldingLinear,
    nn.Conv1d: FoldingConv1d,
    nn.Conv2d: FoldingConv2d,
    nn.Conv3d: FoldingConv3d,
    nn.ConvTranspose1d: FoldingConvTranspose1d,
    nn.ConvTranspose2d: FoldingConvTranspose2d,
    nn.ConvTranspose3d: FoldingConvTranspose3d,
}


def folds(layer: nn.Module) -> bool:
    """Whether this very class can take a batch norm in at every call."""
    return type(layer) in _FOLDING


def fold_on_the_fly(layer: Any, norm: Any) -> None:
    """Both stay the same objects with the same parameters; only their classes change."""
    norm._class, norm._layer = type(norm), [layer]
    layer._norm = [norm]
    layer.__class__ = _FOLDING[type(layer)]
    norm.__class__ = FoldedBatchNorm


def unfold(norm: Any) -> None:
    """The opposite of :func:`fold_on_the_fly`."""
    (layer,) = norm._layer
    norm.__class__ = norm._class
    layer.__class__ = type(layer).__mro__[type(layer).__mro__.index(_Folding) + 1]
    del norm._class, norm._layer, layer._norm
