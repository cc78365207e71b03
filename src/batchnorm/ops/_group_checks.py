"""Refuse wrong labels before anything is computed; the groups' operators read them first."""

import torch
from torch import Tensor

from .._errors import DtypeError, ShapeError, explain
from ._checks import check_device

__all__ = ["check_groups", "check_label_values", "check_labels"]


def check_labels(who: str, name: str, labels: Tensor, input: Tensor) -> None:
    """``labels`` is int64 ``(N,)`` where ``input`` is.

    Raises:
        DtypeError: another dtype.
        ShapeError: another shape.
        RuntimeError: another device.
    """
    if labels.dtype != torch.int64:
        raise DtypeError(
            explain(who, f"{name} must be int64", f"dtype {labels.dtype}", "Use .long()")
        )
    if labels.shape != input.shape[:1]:
        raise ShapeError(
            explain(
                who,
                f"{name} must have one value per sample, shape ({input.shape[0]},)",
                f"{name} of shape {tuple(labels.shape)}, input of shape {tuple(input.shape)}",
                f"Pass {name} with {input.shape[0]} values",
            )
        )
    check_device(who, name, labels, input)


def check_label_values(who: str, name: str, labels: Tensor, size: int, first: int = 0) -> None:
    """Every value is in ``[first, size)``; read on the CPU, elsewhere the device itself refuses.

    Raises:
        ShapeError: one is not.
    """
    if labels.device.type != "cpu" or labels.numel() == 0:
        return

    low, high = (int(value) for value in labels.aminmax())
    if low < first or high >= size:
        raise ShapeError(
            explain(
                who,
                f"{name} must be in [{first}, {size})",
                f"values from {low} to {high}",
                f"Pass labels below {size}",
            )
        )


def check_groups(
    who: str,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    index: Tensor,
    groups: int,
    rows: Tensor | None,
) -> None:
    """Labels fit their tables; what the operators on groups ask.

    Raises:
        ShapeError: they do not.
        DtypeError: a wrong dtype.
        RuntimeError: a wrong device.
    """
    check_labels(who, "index", index, input)
    check_label_values(who, "index", index, groups)
    tables = {name: t for name, t in (("weight", weight), ("bias", bias)) if t is not None}
    if rows is not None:
        check_labels(who, "rows", rows, input)
        if not tables:
            raise ShapeError(
                explain(who, "rows need a weight or a bias", "neither", "Pass rows=None")
            )

    channels = input.shape[1]
    height = None if rows is None else len(next(iter(tables.values())))
    expected = (channels,) if height is None else (height, channels)
    for name, table in tables.items():
        if table.shape != expected:
            kind = "(C,)" if rows is None else "(R, C)"
            raise ShapeError(
                explain(
                    who,
                    f"{name} must have shape {kind} = {expected}",
                    f"shape {tuple(table.shape)}",
                    "Pass one row for each value of rows, or rows=None for (C,)",
                )
            )
    if rows is not None and height is not None:
        check_label_values(who, "rows", rows, height)
