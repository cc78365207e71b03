"""Plain text tables."""

from collections.abc import Sequence

__all__ = ["number", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head; the first column to the left, the others to the right.

    Example:
        >>> print(table(["layer", "n"], [["bn1", "8"], ["layer1.bn", "128"]]))
        layer        n
        bn1          8
        layer1.bn  128
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in (head, *rows)
    )

    return "\n".join("  ".join(line).rstrip() for line in lines)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"
