"""Arrays in ``.npz`` archives; what is cut short, broken or pickled is refused."""

import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from ._raw import Array, Parts, Raw, refused

__all__ = ["pieces", "read_four", "read_npz"]

# What numpy raises for a file that is cut short, is no archive, or holds pickled objects.
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    """The arrays of these names.

    Raises:
        ValueError: the file is no whole archive, or one is missing.
    """
    try:
        # Opened here: np.load leaves its own file open when the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            if not missing:
                return {key: archive[key] for key in keys}
            found = sorted(archive.files)
    except UNREADABLE as error:
        size = path.stat().st_size
        got = f"{size} bytes that end early or are no .npz archive ({type(error).__name__})"
        raise refused(path, "the file must be a whole .npz archive", got) from error
    raise refused(path, f"the archive must hold {', '.join(keys)}", f"{found}")


def read_four(paths: tuple[Path, ...]) -> Parts:
    """``x_train, y_train, x_test, y_test`` of one file."""
    arrays = read_npz(paths[0], ("x_train", "y_train", "x_test", "y_test"))

    return (
        Raw(arrays["x_train"], arrays["y_train"]),
        Raw(arrays["x_test"], arrays["y_test"]),
    )


def pieces(path: Path, name: str, values: Array, offsets: Array) -> Iterator[Array]:
    """Pieces of different lengths that lie in one array.

    Args:
        path: for errors.
        name: of the array.
        values: one piece after another.
        offsets: where each begins, and where the last ends.

    Raises:
        ValueError: they do not cut the array.
    """
    whole = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == len(values)
    if not (whole and np.issubdtype(offsets.dtype, np.integer) and (np.diff(offsets) > 0).all()):
        rule = f"the offsets of {name} must rise from 0 to its length"
        got = f"{offsets[:1]} to {offsets[-1:]} for {len(values)} values"
        raise refused(path, rule, got)

    return (values[start:end] for start, end in pairwise(offsets.tolist()))
