"""Limits that move with training."""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from .._errors import explain
from ..ops import check_number

__all__ = ["Limit", "Ramp", "check_limit", "limit_at"]

Step = TypeVar("Step", float, Tensor)


@dataclass(frozen=True)
class Ramp:
    """A limit: ``start`` until batch ``begin``, ``stop`` from batch ``end``, a line between.

    Args:
        start: value before ``begin``.
        stop: value from ``end`` on.
        begin: number of batches.
        end: number of batches, more than ``begin``.

    Raises:
        ValueError: ``end`` is not more than ``begin``, or a value is not finite.

    Example:
        >>> ramp = Ramp(1.0, 3.0, begin=5_000, end=40_000)
        >>> ramp.at(0), ramp.at(22_500), ramp.at(50_000)
        (1.0, 2.0, 3.0)
    """

    start: float
    stop: float
    begin: int
    end: int

    def __post_init__(self) -> None:
        if not self.end > self.begin or not math.isfinite(self.start + self.stop):
            raise ValueError(
                explain(
                    "Ramp",
                    "end must come after begin, and start and stop must be finite",
                    f"{self}",
                    "Use Ramp(1.0, 3.0, begin=5_000, end=40_000)",
                )
            )

    def at(self, batches: Step) -> Step:
        """The value after so many batches; a number for a number, a tensor for a tensor."""
        share = (batches - self.begin) / (self.end - self.begin)
        if isinstance(share, Tensor):
            share = share.clamp(0.0, 1.0)
        else:
            share = min(max(share, 0.0), 1.0)

        return self.start + (self.stop - self.start) * share


Limit = float | Ramp


def limit_at(limit: Limit, batches: Any) -> Any:
    """The limit's value after so many batches, a number or a 0-dim tensor."""
    return limit.at(batches) if isinstance(limit, Ramp) else float(limit)


def check_limit(who: str, name: str, limit: Limit, least: float) -> None:
    """A number or a ramp, nowhere below ``least``.

    Raises:
        TypeError: it is neither.
        ValueError: it is below.
    """
    values = (limit.start, limit.stop) if isinstance(limit, Ramp) else (limit,)
    for value in values:
        check_number(who, name, value, zero=True)
        if value < least:
            raise ValueError(
                explain(who, f"{name} must be at least {least:g}", f"{name}={limit}", "Raise it")
            )
