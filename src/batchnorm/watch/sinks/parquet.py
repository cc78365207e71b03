"""Parquet: one table for a data frame."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .._read import parquet
from .._schema import COLUMNS, RUN_KEY, Row
from ._sink import Sink
from .jsonl import JsonLines

__all__ = ["Parquet"]

_GROUP = 5000


class Parquet(Sink):
    """Writes a Parquet file when the recording ends, with whatever ended it.

    Until then the rows are in ``<path>.part.jsonl``, which stays, and can be read, if the process
    is killed.

    Args:
        path: of the file; it is written anew.

    Raises:
        RuntimeError: pyarrow is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self._module = parquet("watch")
        self.path = Path(path)
        self._journal = JsonLines(self.path.with_name(f"{self.path.name}.part.jsonl"))
        self._run: Row | None = None

    def open(self, run: Row) -> None:
        """Begin the journal."""
        self._run = run
        self._journal.open(run)

    def write(self, rows: Sequence[Row]) -> None:
        """Append to the journal."""
        self._journal.write(rows)

    def close(self) -> None:
        """Turn the journal into the file; another process sees the whole of it or none."""
        self._journal.close()
        if self._run is None:
            return
        import pyarrow

        kinds = {
            "int": pyarrow.int64(),
            "float": pyarrow.float64(),
            "str": pyarrow.string(),
            "bool": pyarrow.bool_(),
            "counts": pyarrow.list_(pyarrow.int32()),
        }
        schema = pyarrow.schema(
            [(name, kinds[kind]) for name, kind in COLUMNS.items()],
            metadata={RUN_KEY: json.dumps(self._run)},
        )
        part = self.path.with_name(f"{self.path.name}.part{os.getpid()}")
        try:
            with self._module.ParquetWriter(part, schema) as writer:
                for rows in self._groups():
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        self._run = None
        self._journal.path.unlink(missing_ok=True)

    def _groups(self) -> Iterator[list[dict[str, Any]]]:
        with self._journal.path.open(encoding="utf-8") as lines:
            next(lines, None)
            while rows := [json.loads(line) for line in islice(lines, _GROUP)]:
                yield rows
