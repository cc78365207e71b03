"""Arrays in ``.npz`` archives; what is cut short, broken or pickled is refused."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ._raw import Array, Parts, Raw, refused

__all__ = ["read_four", "read_npz"]

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
