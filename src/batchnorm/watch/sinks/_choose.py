"""Sinks from what a user names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..._errors import explain
from ._sink import Memory, Sink
from .jsonl import JsonLines
from .live import Live
from .parquet import Parquet
from .tensorboard import TensorBoard

__all__ = ["Target", "choose"]

Target = Any
"""``None``: memory. A file name that ends with ``.jsonl`` or ``.parquet``; ``"live"``; a
``SummaryWriter``; a :class:`Sink`; or several of these."""


def choose(to: Target) -> list[Sink]:
    """The sinks that are meant.

    Raises:
        ValueError: nothing is known by that name.
    """
    if to is None:
        return [Memory()]
    if isinstance(to, Sink):
        return [to]
    if isinstance(to, (str, Path)):
        return [_named(to)]
    if hasattr(to, "add_scalar") and hasattr(to, "add_histogram_raw"):
        return [TensorBoard(to)]
    if isinstance(to, Iterable):
        return [sink for one in to for sink in choose(one)]

    raise _unknown(to)


def _named(to: str | Path) -> Sink:
    if to == "live":
        return Live()
    suffix = Path(to).suffix
    if suffix == ".parquet":
        return Parquet(to)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(to)

    raise _unknown(to)


def _unknown(to: Any) -> ValueError:
    return ValueError(
        explain(
            "watch",
            "to= must name a sink",
            f"to={to!r}",
            "Use a file that ends with .jsonl or .parquet, 'live', a SummaryWriter, or a sink of "
            "batchnorm.watch.sinks",
        )
    )
