"""Numbers as text, and Markdown tables."""

import math
from collections.abc import Iterable, Sequence

from benchmarks.runner import Quartiles

__all__ = ["geometric_mean", "markdown", "milliseconds_text", "shape_text", "speed", "spread"]


def geometric_mean(values: Iterable[float]) -> float:
    """Nan when there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def speed(value: float) -> str:
    """A speed-up; bold when it is a loss."""
    if math.isnan(value):
        return "–"
    text = f"{value:.1f}×" if value >= 9.95 else f"{value:.2f}×"
    return f"**{text}**" if value < 1 else text


def spread(found: Quartiles) -> str:
    """A speed-up with its quartiles."""
    return f"{speed(found.median)} ({found.q1:.2f}–{found.q3:.2f})"


def milliseconds_text(value: float) -> str:
    """Three digits that matter, in ms."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def shape_text(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def markdown(head: Sequence[str], body: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """A Markdown table whose columns after the first ``text_columns`` are numbers."""
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    lines = [list(head), rule, *map(list, body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
