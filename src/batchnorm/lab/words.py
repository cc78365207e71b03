"""Numbers in words: one way to write them in tables, sentences and charts."""

import math
from collections.abc import Callable

from .summary import Estimate

__all__ = [
    "count",
    "factor",
    "interval",
    "many",
    "number",
    "percent",
    "plus_minus",
    "points",
    "power",
    "rate",
]


SPACE = "\N{NO-BREAK SPACE}"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float) -> str:
    """A share as a percentage, ``0.931`` as ``93.1 %``."""
    return f"{100 * share:.1f}{SPACE}%"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, signed, ``−2.1``."""
    rounded = round(100 * difference, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0"


def count(number: float) -> str:
    """A whole number with thousands set apart, ``6,000``."""
    return f"{number:,.0f}"


def factor(value: float) -> str:
    """A ratio with about two digits, ``3.4`` or ``51``."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else "∞"
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def rate(lr: float) -> str:
    """A learning rate without needless zeros."""
    return f"{lr:g}"


def power(value: float) -> str:
    """A tiny number as ``3×10⁻⁷``."""
    if not value or not math.isfinite(value):
        return factor(value) if value else "0"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit}×10{str(int(exponent)).translate(RAISED)}".replace("-", "−")


def plus_minus(found: Estimate) -> str:
    """``93.1 % ± 0.4``: mean and standard deviation of a share over seeds."""
    return f"{percent(found.mean)}{SPACE}±{SPACE}{100 * found.spread:.1f}"


def interval(found: Estimate, write: Callable[[float], str] = factor) -> str:
    """The 95 % interval, ``95 % interval 2.1 to 3.4``."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return "no interval" + (" from one seed" if found.count == 1 else "")
    return f"95{SPACE}% interval {write(found.low)} to {write(found.high)}"


def number(value: float) -> str:
    """About three digits: ``0.0123``, ``1,230``, ``1.2e+09``."""
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-4:
        return f"{value:.1e}".replace("-", "−")
    if abs(value) >= 100:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def many(count: int, thing: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
