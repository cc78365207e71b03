"""Refuse wrong arguments before anything is computed or changed; reads no tensor's values."""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .._errors import DtypeError, ShapeError, explain
from .._types import Activation

__all__ = [
    "FLOAT_DTYPES",
    "broadcast_mask",
    "check_affine",
    "check_channels",
    "check_device",
    "check_input",
    "check_number",
    "check_per_channel",
    "check_residual",
    "check_slope",
]

FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_input(who: str, input: Tensor) -> None:
    """``input`` is ``(N, C, *)`` of a supported float dtype.

    Raises:
        DtypeError: it is not.
        ShapeError: fewer than 2 dimensions.
    """
    if not isinstance(input, Tensor):
        raise TypeError(
            explain(who, "input must be a tensor", type(input).__name__, "Pass a torch.Tensor")
        )
    if input.dtype not in FLOAT_DTYPES:
        raise DtypeError(
            explain(
                who,
                "input must be float16, bfloat16, float32 or float64",
                f"dtype {input.dtype}",
                "Convert it with .float()",
            )
        )
    if input.dim() < 2:
        raise ShapeError(
            explain(
                who,
                "input must have at least 2 dimensions (N, C)",
                f"shape {tuple(input.shape)}",
                "Add the missing ones with .unsqueeze()",
            )
        )


def check_channels(who: str, input: Tensor, num_features: int) -> None:
    """Dimension 1 of ``input`` has the layer's number of channels.

    Raises:
        ShapeError: it has not.
    """
    if input.shape[1] != num_features:
        raise ShapeError(
            explain(
                who,
                f"expected {num_features} channels in dimension 1",
                f"input of shape {tuple(input.shape)}",
                f"Use num_features={input.shape[1]}, or move the channels to dimension 1",
            )
        )


def check_device(who: str, name: str, tensor: Tensor, input: Tensor) -> None:
    """``tensor`` lies where ``input`` does.

    Raises:
        RuntimeError: it does not.
    """
    if tensor.device != input.device:
        raise RuntimeError(
            explain(
                who,
                f"{name} and input must be on the same device",
                f"{name} on {tensor.device}, input on {input.device}",
                "Move one with .to(device)",
            )
        )


def check_per_channel(who: str, name: str, tensor: Tensor | None, input: Tensor) -> None:
    """``tensor`` is None, or float ``(C,)`` on the device of ``input``.

    Raises:
        DtypeError: it is not a float.
        ShapeError: it has another shape.
        RuntimeError: it lies elsewhere.
    """
    if tensor is None:
        return
    if not tensor.dtype.is_floating_point:
        raise DtypeError(
            explain(who, f"{name} must be a float", f"dtype {tensor.dtype}", "Use .float()")
        )
    channels = input.shape[1]
    if tensor.shape != (channels,):
        raise ShapeError(
            explain(
                who,
                f"{name} must have one value per channel, shape ({channels},)",
                f"{name} of shape {tuple(tensor.shape)}, input of shape {tuple(input.shape)}",
                f"Pass {name} with {channels} values",
            )
        )
    check_device(who, name, tensor, input)


def check_affine(who: str, name: str, tensor: Tensor | None, input: Tensor) -> None:
    """``tensor`` is None, or float ``(C,)`` or ``(N, C)`` on the device of ``input``.

    Raises:
        DtypeError: it is not a float.
        ShapeError: it has another shape.
        RuntimeError: it lies elsewhere.
    """
    if tensor is None or tensor.dim() != 2 or not tensor.dtype.is_floating_point:
        check_per_channel(who, name, tensor, input)
        return

    if tensor.shape != input.shape[:2]:
        raise ShapeError(
            explain(
                who,
                f"{name} of each sample must have shape (N, C) = {tuple(input.shape[:2])}",
                f"shape {tuple(tensor.shape)}",
                "Pass one row per sample, or (C,) for all of them",
            )
        )
    check_device(who, name, tensor, input)


def check_residual(who: str, residual: Tensor, input: Tensor) -> None:
    """``residual`` has the shape, dtype and device of ``input``.

    Raises:
        ShapeError: another shape.
        DtypeError: another dtype.
        RuntimeError: another device.
    """
    if residual.shape != input.shape:
        raise ShapeError(
            explain(
                who,
                "residual must have the shape of input",
                f"residual {tuple(residual.shape)}, input {tuple(input.shape)}",
                "Bring it there with a projection, or .expand_as(input)",
            )
        )
    if residual.dtype != input.dtype:
        raise DtypeError(
            explain(
                who,
                "residual must have the dtype of input",
                f"residual {residual.dtype}, input {input.dtype}",
                "Convert it with residual.to(input.dtype)",
            )
        )
    check_device(who, "residual", residual, input)


def broadcast_mask(who: str, mask: Tensor, input: Tensor) -> Tensor:
    """``mask`` as bool ``(N, *spatial)``, contiguous; given as that or as ``(N,)``.

    Raises:
        DtypeError: it is not bool.
        ShapeError: it has another shape.
        RuntimeError: it lies on another device.
    """
    if mask.dtype != torch.bool:
        raise DtypeError(
            explain(
                who,
                "mask must be bool, True = real",
                f"dtype {mask.dtype}",
                "Convert it with mask.bool()",
            )
        )
    check_device(who, "mask", mask, input)

    samples, positions = input.shape[:1], (input.shape[0], *input.shape[2:])
    if mask.shape == positions:
        return mask.contiguous()
    if mask.shape == samples:
        return mask.reshape(-1, *(1,) * (input.dim() - 2)).expand(positions).contiguous()

    raise ShapeError(
        explain(
            who,
            f"mask must have shape (N,) = {tuple(samples)} or (N, *spatial) = {positions}",
            f"shape {tuple(mask.shape)}",
            "It has no channel dimension: drop it",
        )
    )


def check_number(who: str, name: str, value: Any, *, zero: bool) -> None:
    """``value`` is a positive number, or 0 where ``zero`` allows it; not NaN.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            explain(who, f"{name} must be a number", f"{name}={value!r}", "Pass a float")
        )
    number = float(value)
    # The negations catch NaN.
    if zero and not number >= 0:
        raise ValueError(
            explain(who, f"{name} must not be negative", f"{name}={value}", "Use 0 or more")
        )
    if not zero and not number > 0:
        raise ValueError(explain(who, f"{name} must be positive", f"{name}={value}", "Use 1e-5"))


def check_slope(who: str, activation: Activation, slope: float | None) -> float:
    """The slope to use: the given one, or the activation's default.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or the activation has none.
    """
    if slope is None:
        return activation.default_slope
    if isinstance(slope, bool) or not isinstance(slope, (int, float)):
        raise TypeError(explain(who, "slope must be a number", f"slope={slope!r}", "Pass a float"))
    if not activation.takes_slope:
        raise ValueError(
            explain(
                who,
                "only leaky_relu and elu have a slope",
                f"activation={activation.label!r}, slope={slope}",
                "Leave slope out",
            )
        )
    if not math.isfinite(slope):
        raise ValueError(explain(who, "slope must be finite", f"slope={slope}", "Use 0.01"))

    return float(slope)
