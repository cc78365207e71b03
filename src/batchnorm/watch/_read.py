"""Recordings from files, JSON lines or Parquet."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .._errors import explain
from ._schema import ALERT, COLUMNS, FORMAT, LAYER, RUN_KEY, SCALAR, Recording, Row

__all__ = ["parquet", "read"]

_KINDS = {"layer": LAYER, "scalar": SCALAR, "alert": ALERT}


def read(path: str | Path) -> Recording:
    """A recording, by the ending of its name: ``.parquet``, or JSON lines.

    A last line that was cut off (the process was killed) is left out.

    Raises:
        ValueError: the file is no recording, or of a newer format.
        RuntimeError: it is Parquet, and pyarrow is not installed.
    """
    path = Path(path)
    rows = _parquet(path) if path.suffix == ".parquet" else _lines(path)
    run = next(iter(rows), {})
    if run.get("type") != "run" or not isinstance(run.get("format"), int):
        raise ValueError(
            explain("watch.read", "the first row is the run's", str(path), "Pass a recording")
        )
    if run["format"] > FORMAT:
        raise ValueError(
            explain(
                "watch.read",
                f"formats up to {FORMAT} are known",
                f"format {run['format']} in {path}",
                "Use a newer batchnorm",
            )
        )

    recording = Recording(run)
    lists = {"layer": recording.layers, "scalar": recording.scalars, "alert": recording.alerts}
    for row in rows[1:]:
        kind = row.get("type")
        if kind in lists:
            lists[kind].append({name: row.get(name) for name in _KINDS[kind]})
    for found in lists.values():
        found.sort(key=lambda row: (row["step"], row.get("order") or 0))

    return recording


def parquet(who: str) -> Any:
    """The module ``pyarrow.parquet``.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        import pyarrow.parquet as found
    except ImportError:
        raise RuntimeError(
            explain(who, "Parquet needs pyarrow", "no such package", "pip install pyarrow")
        ) from None

    return found


def _lines(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return list(_rows(lines, path))


def _rows(lines: Iterable[str], path: Path) -> Iterable[Row]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            if not line.endswith("\n"):
                return
            raise ValueError(
                explain("watch.read", "every line is JSON", f"{path}, line {number}", "Repair it")
            ) from None
        if isinstance(row, dict):
            yield row


def _parquet(path: Path) -> list[Row]:
    module = parquet("watch.read")
    table = module.read_table(path)
    run = (table.schema.metadata or {}).get(RUN_KEY.encode())
    rows = table.select([name for name in table.column_names if name in COLUMNS]).to_pylist()

    return [json.loads(run), *rows] if run else []
