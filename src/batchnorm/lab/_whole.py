"""A file that is there as a whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["sweep", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file that then takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have begun in a folder; theirs alone."""
    for part in folder.glob("*.part*"):
        writer = part.suffix.removeprefix(".part")
        if writer.isdecimal() and not _is_running(int(writer)):
            part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether there is such a process; one of another user is one too."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True

    return True
