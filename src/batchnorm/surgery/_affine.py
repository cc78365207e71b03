"""What a batch norm does at inference: mix, scale, shift, and what comes after them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm
from torch.nn.modules.batchnorm import _LazyNormBase

from .. import reference
from .._types import Activation
from ..layers import (
    BatchNorm1d,
    RecurrentBatchNorm,
    SequenceBatchNorm,
    WhitenedBatchNorm1d,
    WhitenedBatchNorm2d,
    WhitenedBatchNorm3d,
)
from ..layers._domain_memory import _DomainMemory
from ._activations import module_of

__all__ = ["Affine", "Folded", "affine_of", "finish", "is_norm", "left_over", "why_no_affine"]

_FORWARDS = (
    _TorchBatchNorm.forward,
    nn.SyncBatchNorm.forward,
    BatchNorm1d.forward,
    SequenceBatchNorm.forward,
)
_WHITENED = (WhitenedBatchNorm1d, WhitenedBatchNorm2d, WhitenedBatchNorm3d)
_normalise_by = BatchNorm1d._normalise_by
_TIMM = ("BatchNormAct2d", "SyncBatchNormAct")
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Affine:
    """``y = scale * (mix @ x) + shift`` at each position; float64, detached.

    Args:
        scale: ``(C,)``.
        shift: ``(C,)``.
        mix: ``(C/d, d, d)``, of groups of d channels; None: every channel by itself.
    """

    scale: Tensor
    shift: Tensor
    mix: Tensor | None = None


class Folded(nn.Module):
    """What is left of a batch norm whose scale and shift went elsewhere.

    Args:
        activation: applied last.
        slope: of leaky_relu and elu.
    """

    def __init__(self, activation: str, slope: float) -> None:
        super().__init__()
        self.activation = activation
        self.slope = slope

    def forward(
        self, input: Tensor, residual: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Add the residual, activate, clear padding; arguments as for the batch norm."""
        return finish(input, residual, mask, self.activation, self.slope)

    def extra_repr(self) -> str:
        """The activation."""
        return f"activation={self.activation!r}"


def finish(
    input: Tensor, residual: Tensor | None, mask: Tensor | None, activation: str, slope: float
) -> Tensor:
    """What a batch norm does after scale and shift: add, activate, clear padding."""
    if residual is not None:
        input = input + residual
    output = reference.activate(input, Activation.parse(activation), slope)
    if mask is None:
        return output

    full = mask.reshape(*mask.shape, *(1,) * (input.dim() - 1 - mask.dim())).unsqueeze(1)
    return torch.where(full, output, 0)


def is_norm(module: nn.Module) -> bool:
    """A batch norm of torch, of ours or of timm; or torchvision's frozen one."""
    return isinstance(module, _TorchBatchNorm) or _is_frozen_by_class(module)


def why_no_affine(layer: nn.Module) -> str:
    """Why the layer is no fixed scale and shift; empty if it is one."""
    if _is_frozen_by_class(layer):
        return ""
    if hasattr(layer, "_layer"):
        return "freeze() folded it already: thaw(model) first"
    if "forward" in layer.__dict__:
        return "its forward was replaced on the instance"
    if isinstance(layer, _DomainMemory):
        return "it has several domains"
    if isinstance(layer, RecurrentBatchNorm):
        return "it has statistics of every time step, so no one scale and shift"
    if type(layer).forward not in _FORWARDS and not _is_timm_act(layer):
        return f"{type(layer).__name__} has a forward of its own"
    if isinstance(layer, _LazyNormBase):
        return "it has not seen its first batch, so its size is unknown"
    if _is_computed(layer):
        return "a hook computes its weight or bias at every call (pruning)"
    if any(getattr(layer, name, None) is None for name in _STATISTICS):
        return "it has no running statistics (track_running_stats=False)"
    if layer.training:
        return "it normalises by the batch: in training mode"
    own = getattr(type(layer), "_normalise_by", _normalise_by)
    if own is not _normalise_by and _mix(layer) is None:
        return f"{type(layer).__name__} is no fixed scale and shift"

    return ""


def affine_of(layer: Any) -> Affine:
    """Scale and shift of a layer for which :func:`why_no_affine` is empty."""
    mean, var = (t.detach().double() for t in (layer.running_mean, layer.running_var))
    mix = _mix(layer)
    if mix is None:
        scale = (var + layer.eps).rsqrt()
    else:
        scale = torch.ones_like(mean)
        mean = (mix @ mean.view(len(mix), -1, 1)).flatten()
    if layer.weight is not None:
        scale = scale * layer.weight.detach().double()
    shift = -mean * scale
    if layer.bias is not None:
        shift = shift + layer.bias.detach().double()

    return Affine(scale, shift, mix)


def _mix(layer: Any) -> Tensor | None:
    """The matrix of a whitened batch norm."""
    if not isinstance(layer, _WHITENED):
        return None
    mix = layer.running_whitening

    return None if mix is None else mix.detach().double()


def left_over(layer: Any, extras: bool) -> nn.Module:
    """What takes the layer's place.

    Args:
        layer: the batch norm.
        extras: whether it is called with a residual or a mask.
    """
    if _is_timm_act(layer):
        idle = isinstance(layer.drop, nn.Identity)
        return layer.act if idle else nn.Sequential(layer.drop, layer.act)

    activation: Any = getattr(layer, "activation", "identity")
    slope: float = getattr(layer, "slope", 0.0)
    return Folded(activation, slope) if extras else module_of(activation, slope)


def _is_computed(layer: nn.Module) -> bool:
    names = ("weight", "bias")
    return any(isinstance(layer.__dict__.get(name), Tensor) for name in names)


def _is_timm_act(layer: nn.Module) -> bool:
    home = type(layer).__module__
    return type(layer).__name__ in _TIMM and home.startswith("timm.")


def _is_frozen_by_class(layer: nn.Module) -> bool:
    buffers = dict(layer.named_buffers(recurse=False))
    return type(layer).__name__ == "FrozenBatchNorm2d" and {"weight", *_STATISTICS} <= set(buffers)
