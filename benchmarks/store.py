"""Rows on disk: a JSON file for each part, written again after every row, so none is lost."""

import json
import os
from pathlib import Path

from benchmarks.machine import COMPARABLE

__all__ = ["Store", "load"]


def load(path: Path) -> dict[str, object] | None:
    """The file's content, or None when there is none."""
    if not path.exists():
        return None
    return json.loads(path.read_text())


class Store:
    """The rows of one part. With ``resume``, good rows of a comparable run count as done."""

    def __init__(self, path: Path, header: dict[str, object], *, resume: bool = False):
        self.path = path
        self.header = header
        self.rows: list[dict[str, object]] = []
        self.differences: list[str] = []
        if resume:
            self._take_over(load(path))

    def _take_over(self, earlier: dict | None) -> None:
        if earlier is None:
            return
        old = earlier["header"]
        self.differences = [key for key in COMPARABLE if old.get(key) != self.header.get(key)]
        if not self.differences:
            self.rows = [row for row in earlier["rows"] if _stays(row)]

    def has(self, key: str) -> bool:
        return any(row["key"] == key for row in self.rows)

    def add(self, row: dict[str, object]) -> None:
        self.rows.append(row)
        self._write(complete=False)

    def finish(self, *, complete: bool) -> None:
        """Every row that was asked for was reached; ``complete`` when these are all of the part."""
        self._write(complete=complete)

    def _write(self, *, complete: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"header": self.header, "complete": complete, "rows": self.rows}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(_compact(content))
        os.replace(temporary, self.path)


def _stays(row: dict[str, object]) -> bool:
    """Whether a resumed run need not measure the row again."""
    return row["status"] == "ok" and not row["noisy"]


def _compact(content: dict[str, object]) -> str:
    """JSON with one line a row: readable, and small in a diff."""
    header = json.dumps(content["header"], indent=1)
    rows = ",\n".join(json.dumps(row) for row in content["rows"])
    complete = json.dumps(content["complete"])
    return f'{{"header": {header},\n"complete": {complete},\n"rows": [\n{rows}\n]}}\n'
