"""MLflow, through its own client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..._errors import explain
from .._schema import Row
from ._sink import Sink, numbers

__all__ = ["MLflow"]


class MLflow(Sink):
    """Logs metrics into the active run; MLflow starts one if there is none. Histograms stay out.

    Args:
        prefix: of the metrics' names.

    Raises:
        RuntimeError: mlflow is not installed.
    """

    def __init__(self, prefix: str = "watch/") -> None:
        try:
            import mlflow
        except ImportError:
            raise RuntimeError(
                explain("watch", "this sink needs mlflow", "no such package", "pip install mlflow")
            ) from None
        self._mlflow: Any = mlflow
        self._prefix = prefix

    def open(self, run: Row) -> None:
        """Tag the run."""
        self._mlflow.set_tags({f"watch.{name}": str(value) for name, value in run.items()})

    def write(self, rows: Sequence[Row]) -> None:
        """Log a step at once."""
        values: dict[str, float] = {}
        for row in rows:
            values |= {self._name(name): value for name, value in numbers(row).items()}
            if row["type"] == "alert":
                tag = f"watch.alert.{row['step']}.{self._name(row['path'])}.{row['code']}"
                self._mlflow.set_tag(tag, row["message"])
        if values:
            self._mlflow.log_metrics(values, step=rows[0]["step"])

    def _name(self, name: str) -> str:
        # MLflow knows letters, digits, and these.
        return re.sub(r"[^\w\-./ ]", "_", f"{self._prefix}{name}")
