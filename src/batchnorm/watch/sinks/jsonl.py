"""JSON lines: a row per line, whole after every step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from .._schema import Row
from ._sink import Sink

__all__ = ["JsonLines"]


class JsonLines(Sink):
    """Writes a file that can be read while it grows, and after a crash.

    Args:
        path: of the file; it is written anew.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: TextIO | None = None

    def open(self, run: Row) -> None:
        """Make the file and its folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8")
        self.write([run])

    def write(self, rows: Sequence[Row]) -> None:
        """Append the rows, without what is null, and flush."""
        if self._file is None:
            return
        for row in rows:
            there = {name: value for name, value in row.items() if value is not None}
            self._file.write(json.dumps(there, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
