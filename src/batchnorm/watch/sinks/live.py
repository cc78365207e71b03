"""A table in the terminal that follows the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._errors import explain
from .._schema import Row
from ._sink import Sink

__all__ = ["Live"]

_COLUMNS = {
    "in mean": "in_mean",
    "in std": "in_std",
    "off by σ": "distance_mean",
    "shift σ": "shift",
    "dead": "dead",
    "saturated": "saturated",
    "update/w": "update_ratio",
}


class Live(Sink):
    """Shows the last recorded step: a row per layer, the latest alerts below.

    Args:
        console: of Rich; None: standard error.
        rows: of the table, at most: the layers with the largest distance first.

    Raises:
        RuntimeError: rich is not installed.
    """

    def __init__(self, console: Any = None, rows: int = 20) -> None:
        try:
            import rich.console
            import rich.live
        except ImportError:
            raise RuntimeError(
                explain("watch", "the live view needs rich", "no such package", "pip install rich")
            ) from None
        self._console = console or rich.console.Console(stderr=True)
        self._live = rich.live.Live(console=self._console, auto_refresh=False)
        self._rows = rows
        self._alerts: list[str] = []

    def open(self, run: Row) -> None:
        """Begin to draw, where somebody looks."""
        self._name = run.get("name") or run.get("model") or "watch"
        if self._console.is_terminal:
            self._live.start()

    def write(self, rows: Sequence[Row]) -> None:
        """Draw the step."""
        self._alerts += [
            f"step {row['step']} {row['path']}: {row['code']} {row['message']}"
            for row in rows
            if row["type"] == "alert"
        ]
        layers = [row for row in rows if row["type"] == "layer" and row["kind"] != "weights"]
        if layers:
            self._live.update(self._drawing(layers), refresh=self._live.is_started)

    def close(self) -> None:
        """Leave the last drawing."""
        self._live.stop()

    def _drawing(self, layers: Sequence[Row]) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"{self._name}, step {layers[0]['step']}", title_justify="left")
        table.add_column("layer", no_wrap=True)
        for title in _COLUMNS:
            table.add_column(title, justify="right")
        chosen = sorted(layers, key=lambda row: -(row["distance_mean"] or 0.0))[: self._rows]
        for row in sorted(chosen, key=lambda row: row["order"]):
            cells = (row.get(name) for name in _COLUMNS.values())
            table.add_row(
                row["path"] or "(model)", *("" if c is None else f"{c:.3g}" for c in cells)
            )

        left = len(layers) - len(chosen)
        notes = [Text(f"and {left} more layers", style="dim")] if left else []

        return Group(table, *notes, *(Text(line, style="yellow") for line in self._alerts[-5:]))
