"""Refuse wrong options of whitening."""

from typing import Any, get_args

from .._errors import explain
from ..ops import WhiteningMethod

__all__ = ["check_group_size", "check_method"]

_LARGEST_DEFAULT = 64


def check_method(who: str, method: Any, iterations: Any) -> None:
    """The method is known, the iterations are a positive integer.

    Raises:
        ValueError: it is not, or they are not.
    """
    known = get_args(WhiteningMethod)
    if method not in known:
        raise ValueError(
            explain(who, f"method must be one of {known}", f"method={method!r}", "Use one")
        )
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(
            explain(
                who, "iterations must be a positive integer", f"iterations={iterations!r}", "Use 5"
            )
        )


def check_group_size(who: str, channels: int, group_size: int | None) -> int:
    """The given one, or the default: C up to 64, else the largest divisor of C up to 64.

    Raises:
        ValueError: it is no divisor of C.
    """
    if group_size is None:
        sizes = range(min(channels, _LARGEST_DEFAULT), 0, -1)
        return next((size for size in sizes if channels % size == 0), 1)
    if isinstance(group_size, bool) or not isinstance(group_size, int) or group_size < 1:
        raise ValueError(
            explain(
                who,
                "group_size must be a positive integer",
                f"group_size={group_size!r}",
                "Use a divisor of num_features",
            )
        )
    if channels % group_size:
        raise ValueError(
            explain(
                who,
                "group_size must divide num_features",
                f"num_features={channels}, group_size={group_size}",
                f"Use {check_group_size(who, channels, None)}",
            )
        )

    return group_size
