"""A table as plain rows of text: every renderer shows the same one."""

from dataclasses import dataclass

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """A caption, column heads and rows; the first column names the row."""

    caption: str
    head: list[str]
    rows: list[list[str]]
