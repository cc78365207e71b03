"""Weights & Biases, through its own client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._errors import explain
from .._schema import BINS, HISTOGRAMS, Row
from ._sink import Sink, numbers

__all__ = ["WeightsAndBiases"]


class WeightsAndBiases(Sink):
    """Logs into a run, beside what you log into it.

    Args:
        run: what ``wandb.init`` gave; None: the run that is active. It stays open at the end.

    Raises:
        RuntimeError: wandb is not installed, or there is no run.
    """

    def __init__(self, run: Any = None) -> None:
        try:
            import wandb
        except ImportError:
            raise RuntimeError(
                explain("watch", "this sink needs wandb", "no such package", "pip install wandb")
            ) from None
        self._wandb = wandb
        self.run = wandb.run if run is None else run
        if self.run is None:
            raise RuntimeError(
                explain("watch", "wandb must have a run", "none", "Call wandb.init() first")
            )

    def open(self, run: Row) -> None:
        """Give the numbers a step of their own: yours is not touched."""
        self.run.define_metric("watch/step")
        self.run.define_metric("watch/*", step_metric="watch/step")
        self.run.config.update({"watch": run}, allow_val_change=True)

    def write(self, rows: Sequence[Row]) -> None:
        """Log a step at once."""
        values: dict[str, Any] = {}
        for row in rows:
            values |= {f"watch/{name}": value for name, value in numbers(row).items()}
            if row["type"] == "layer":
                values |= {f"watch/{name}": h for name, h in self._histograms(row).items()}
            elif row["type"] == "alert":
                text = f"{row['path']}: {row['message']}. {row['remedy']}."
                self.run.alert(title=f"{row['code']} {row['name']}", text=text)
        if values:
            self.run.log(values | {"watch/step": rows[0]["step"]})

    def _histograms(self, row: Row) -> dict[str, Any]:
        found = {}
        for column in HISTOGRAMS:
            counts, side = row.get(column), column.removesuffix("_hist")
            low, high = row.get(f"{side}_low"), row.get(f"{side}_high")
            if counts and low is not None and high is not None:
                edges = [low + (high - low) * at / BINS for at in range(BINS + 1)]
                place = row["path"] or "(model)"
                found[f"{place}/{side}"] = self._wandb.Histogram(np_histogram=(counts, edges))

        return found
