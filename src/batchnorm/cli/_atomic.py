"""Files that are there as a whole or not at all."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .._errors import explain

__all__ = ["check_targets", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; the file takes its place when the body is through.

    After an exception, or a kill at any moment, ``path`` is as it was. Only a kill leaves the other
    file, whose hidden name ends in ``.part`` and the suffix.
    """
    target = path.resolve()
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.touch()
        mode = (target if target.exists() else part).stat().st_mode
        yield part
        part.chmod(mode)  # some writers make files that only their owner can read
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def check_targets(who: str, targets: Iterable[Path], *, force: bool) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        ValueError: two targets are one file.
        FileExistsError: one is there, and may not be replaced.
        OSError: it is a folder, or nothing can be written there.
    """
    seen: set[Path] = set()
    for path in targets:
        place = path.resolve()
        if place in seen:
            rule, cure = "each result needs a file of its own", "Give them different names"
            raise ValueError(explain(who, rule, f"'{path}' twice", cure))
        seen.add(place)
        if place.is_dir():
            rule, cure = "a result is a file", "Name a file in it"
            raise IsADirectoryError(explain(who, rule, f"the folder '{path}'", cure))
        if place.exists() and not force:
            rule, cure = "files that are there are kept", "Name another, or pass --force"
            raise FileExistsError(explain(who, rule, f"'{path}'", cure))
        folder = next(parent for parent in place.parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            rule, cure = "the folder must be writable", "Name another"
            raise PermissionError(explain(who, rule, f"'{folder}'", cure))
