"""Where in the user's own files a finding belongs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._context import Context

__all__ = ["Place", "place_in", "place_of_source"]

_FOREIGN = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Place:
    """A line of a file.

    Args:
        file: absolute.
        line: from 1.
    """

    file: Path
    line: int

    @property
    def relative(self) -> str:
        """The file from this folder, with slashes; absolute if it is elsewhere."""
        here = Path.cwd()
        inside = self.file.is_relative_to(here)

        return (self.file.relative_to(here) if inside else self.file).as_posix()


def place_in(context: Context, path: str) -> Place | None:
    """The class of the innermost module above a path that the user has written; None if none is."""
    for module in reversed(list(context.above(path))):
        place = place_of_source(type(module))
        if place is not None:
            return place

    return None


def place_of_source(thing: Any) -> Place | None:
    """Where a class or function is written, if not in an installed package."""
    try:
        file = inspect.getsourcefile(thing)
        lines, first = inspect.getsourcelines(thing)
    except (OSError, TypeError):
        return None
    if file is None or not lines:
        return None
    path = Path(file).resolve()
    own = path.is_relative_to(Path(__file__).resolve().parents[1])

    return None if own or _FOREIGN & set(path.parts) else Place(path, max(first, 1))
