"""What every sink is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .._schema import Recording, Row

__all__ = ["Memory", "Sink", "numbers"]

_APART = {"type", "step", "seconds", "path", "order", "kind", "channels", "training"}


class Sink(ABC):
    """Takes the rows of each recorded step, on the one process that writes."""

    @abstractmethod
    def open(self, run: Row) -> None:
        """The recording begins.

        Args:
            run: the run's row.
        """

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Take the rows of one step: layers, scalars, alerts."""

    def close(self) -> None:
        """The recording ends, whatever ended it."""
        return


class Memory(Sink):
    """Keeps everything: ``recording``."""

    def open(self, run: Row) -> None:
        """Begin with an empty recording."""
        self.recording = Recording(run)

    def write(self, rows: Sequence[Row]) -> None:
        """Append the rows."""
        for row in rows:
            getattr(self.recording, f"{row['type']}s").append(row)


def numbers(row: Row) -> dict[str, float]:
    """The numbers of a layer row or scalar row by their names in a dashboard: ``layer1/in_std``."""
    if row["type"] == "scalar":
        return {row["name"]: row["value"]} if row["value"] is not None else {}
    if row["type"] != "layer":
        return {}

    place = row["path"] or "(model)"

    return {
        f"{place}/{name}": value
        for name, value in row.items()
        if name not in _APART and isinstance(value, (int, float))
    }
