"""Refuse what a recurrent network cannot be built of, or run on."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..._errors import explain

__all__ = ["Mode", "check_arguments", "check_sequences", "check_state"]

Mode = Literal["recurrent", "sequence"]
"""``"recurrent"``: statistics of each time step, of the input's part, the hidden part and the cell.
``"sequence"``: statistics over all steps, of the input's part alone."""


def check_arguments(
    who: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    proj_size: int,
    mode: Any,
) -> None:
    """Refuse what torch refuses, projections, and unknown modes.

    Raises:
        TypeError: a size that is no integer.
        ValueError: a value out of range, a projection, or an unknown mode.
    """
    for name, value in (
        ("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers),
    ):  # fmt: skip
        if not isinstance(value, int) or isinstance(value, bool):
            rule = f"{name} should be of type int"
            raise TypeError(explain(who, rule, f"{name}={value!r}", "Pass an integer"))
        if value <= 0:
            rule = f"{name} must be greater than zero"
            raise ValueError(explain(who, rule, f"{name}={value}", "Use 1 or more"))
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        rule = "dropout should be a number in range [0, 1]"
        raise ValueError(explain(who, rule, f"dropout={dropout!r}", "Use the share to drop"))
    if proj_size != 0:
        rule = "projections are not offered"
        cure = "Leave proj_size out, and put a Linear after the layer"
        raise ValueError(explain(who, rule, f"proj_size={proj_size}", cure))
    if mode not in get_args(Mode):
        rule = f"mode must be one of {get_args(Mode)}"
        raise ValueError(explain(who, rule, f"mode={mode!r}", "Use one"))
    if dropout and num_layers == 1:
        rule = "dropout is applied after every layer but the last"
        got, cure = f"dropout={dropout}, num_layers=1", "Use more layers, or dropout=0"
        warnings.warn(explain(who, rule, got, cure), stacklevel=3)


def check_sequences(who: str, data: Tensor, packed: bool, input_size: int, weight: Tensor) -> None:
    """Input, or a packed sequence's rows, have the right shape and the weights' dtype.

    Raises:
        RuntimeError: a wrong shape.
        ValueError: a wrong dtype.
    """
    if data.dim() not in ((2,) if packed else (2, 3)) or data.shape[-1] != input_size:
        rule = f"input must be (L, N, {input_size}), or (N, L, {input_size}) with batch_first=True"
        cure = f"Check input_size={input_size} and the axes"
        raise RuntimeError(explain(who, rule, f"shape {tuple(data.shape)}", cure))
    if data.dtype != weight.dtype and not torch.is_autocast_enabled(data.device.type):
        rule = "input must have the dtype of the weights"
        got = f"input {data.dtype}, weights {weight.dtype}"
        raise ValueError(
            explain(who, rule, got, "Convert the input, or the layer, with .to(dtype)")
        )


def check_state(who: str, state: Iterable[Tensor], expected: tuple[int, ...]) -> None:
    """Every tensor of an initial state has the expected shape.

    Raises:
        RuntimeError: one has not.
    """
    for part in state:
        if tuple(part.shape) != expected:
            rule = f"Expected hidden size {expected}"
            cure = "Pass (layers x directions, N, hidden_size), also with batch_first"
            raise RuntimeError(explain(who, rule, f"{tuple(part.shape)}", cure))
