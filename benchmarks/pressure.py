"""How long runnable tasks of this machine waited for a processor: Linux's CPU pressure."""

from collections.abc import Callable
from pathlib import Path

__all__ = ["Pressure", "parse_some_total", "pressure_reader"]

Pressure = Callable[[], int | None]

_PATH = Path("/proc/pressure/cpu")


def parse_some_total(text: str) -> int | None:
    """Microseconds in which some task waited, from the text of a pressure file."""
    for line in text.splitlines():
        kind, *fields = line.split()
        if kind == "some":
            totals = [field[6:] for field in fields if field.startswith("total=")]
            return int(totals[0]) if totals else None
    return None


def pressure_reader(path: Path = _PATH) -> Pressure:
    """A function that reads the counter, or returns None where the machine has none."""

    def read() -> int | None:
        try:
            return parse_some_total(path.read_text())
        except OSError:
            return None

    return read
