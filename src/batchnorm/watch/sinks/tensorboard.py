"""TensorBoard: scalars, histograms in its own dashboard, alerts as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..._errors import explain
from .._schema import BINS, HISTOGRAMS, Row
from ._sink import Sink, numbers

__all__ = ["TensorBoard"]


class TensorBoard(Sink):
    """Writes through a ``SummaryWriter``.

    Args:
        writer: yours, which stays open at the end; or a folder for one of its own.

    Raises:
        RuntimeError: a folder is given, and tensorboard is not installed.
    """

    def __init__(self, writer: Any) -> None:
        self._own = isinstance(writer, (str, Path))
        if self._own:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise RuntimeError(
                    explain(
                        "watch",
                        "a TensorBoard folder needs tensorboard",
                        "no such package",
                        "pip install tensorboard",
                    )
                ) from None
            writer = SummaryWriter(str(writer))
        self.writer = writer

    def open(self, run: Row) -> None:
        """Write the run as text."""
        text = "\n".join(f"    {name}: {value}" for name, value in run.items())
        self.writer.add_text("watch/run", text, 0)

    def write(self, rows: Sequence[Row]) -> None:
        """Write every number, every histogram and every alert of a step."""
        for row in rows:
            for name, value in numbers(row).items():
                self.writer.add_scalar(name, value, row["step"])
            if row["type"] == "layer":
                self._histograms(row)
            elif row["type"] == "alert":
                text = f"**{row['code']}** {row['path']}: {row['message']}. {row['remedy']}."
                self.writer.add_text("watch/alerts", text, row["step"])

    def close(self) -> None:
        """Flush; close a writer of its own."""
        self.writer.flush()
        if self._own:
            self.writer.close()

    def _histograms(self, row: Row) -> None:
        for column in HISTOGRAMS:
            counts, side = row.get(column), column.removesuffix("_hist")
            low, high = row.get(f"{side}_low"), row.get(f"{side}_high")
            if not counts or low is None or high is None:
                continue
            width = (high - low) / BINS
            middles = [low + width * (at + 0.5) for at in range(BINS)]
            self.writer.add_histogram_raw(
                f"{row['path'] or '(model)'}/{side}",
                min=low,
                max=high,
                num=sum(counts),
                sum=sum(c * m for c, m in zip(counts, middles, strict=True)),
                sum_squares=sum(c * m * m for c, m in zip(counts, middles, strict=True)),
                bucket_limits=[low + width * (at + 1) for at in range(BINS)],
                bucket_counts=counts,
                global_step=row["step"],
            )
