"""Tensors as the kernels take them: dense, alike in memory, on one device."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import DtypeError, ShapeError, explain

__all__ = ["View", "accumulation_dtype", "alike", "bytes_of", "check", "dense", "on_device_of"]


class View(NamedTuple):
    """A dense tensor and its sizes in memory order: ``(n, channels, space)``."""

    tensor: Tensor
    n: int
    channels: int
    space: int

    @property
    def positions(self) -> int:
        """Elements of a channel."""
        return self.n * self.space

    def channel_values(self, *more: int) -> Tensor:
        """Uninitialised ``(*more, C)`` in the accumulation dtype."""
        dtype = accumulation_dtype(self.tensor.dtype)
        return self.tensor.new_empty((*more, self.channels), dtype=dtype)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for every narrower type."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dense(x: Tensor) -> View:
    """``x`` itself if it is contiguous or channels-last in memory, else a contiguous copy."""
    samples, channels = x.shape[:2]
    space = math.prod(x.shape[2:])
    if x.is_contiguous():
        return View(x, samples, channels, space)
    if x.movedim(1, -1).is_contiguous():
        return View(x, samples * space, channels, 1)

    return View(x.contiguous(), samples, channels, space)


def alike(t: Tensor | None, x: Tensor) -> Tensor | None:
    """``t`` in the memory layout of the dense ``x``; a copy if it has another."""
    if t is None or t.stride() == x.stride():
        return t

    same = all(
        size == 1 or a == b for size, a, b in zip(x.shape, t.stride(), x.stride(), strict=True)
    )
    return t if same else torch.empty_like(x, dtype=t.dtype).copy_(t)


def bytes_of(mask: Tensor | None) -> Tensor | None:
    """A bool mask as bytes, without a copy."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


@contextmanager
def on_device_of(x: Tensor) -> Iterator[None]:
    """Triton launches on the current device: make it that of ``x``."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            yield
    else:
        yield


def check(
    who: str,
    input: Tensor,
    per_channel: tuple[Tensor | None, ...],
    like_input: tuple[Tensor | None, ...],
    mask: Tensor | None,
) -> None:
    """Refuse what a kernel would read beyond its end, or on another device.

    Raises:
        ShapeError: a tensor has not the shape that the input asks for.
        DtypeError: a tensor has a dtype that the kernels do not read.
        RuntimeError: a tensor lies on another device.
    """
    shape = input.shape
    if not input.is_floating_point() or len(shape) < 2:
        raise DtypeError(
            explain(
                who, "input must be float (N, C, *)", f"{input.dtype} {tuple(shape)}", "Convert it"
            )
        )
    for t in (*per_channel, *like_input, mask):
        if t is not None and t.device != input.device:
            raise RuntimeError(
                explain(
                    who,
                    "all tensors must be on the device of input",
                    f"one on {t.device}, input on {input.device}",
                    "Move it with .to(device)",
                )
            )
    for t in per_channel:
        if t is not None and t.shape != shape[1:2]:
            raise _wrong_shape(who, "parameters and statistics", (shape[1],), t)
    for t in like_input:
        if t is not None and t.shape != shape:
            raise _wrong_shape(who, "residual, output and gradients", tuple(shape), t)
    if mask is not None and (mask.shape != (shape[0], *shape[2:]) or mask.dtype != torch.bool):
        raise _wrong_shape(who, "a bool mask", (shape[0], *shape[2:]), mask)


def _wrong_shape(who: str, what: str, shape: tuple[int, ...], got: Tensor) -> ShapeError:
    return ShapeError(
        explain(who, f"{what} must have shape {shape}", f"{tuple(got.shape)} {got.dtype}", "Fix it")
    )
