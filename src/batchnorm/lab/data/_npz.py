"""Arrays in ``.npz`` archives; what is cut short, broken or pickled is refused."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from ._raw import Array, Parts, Raw, parsing, refused

__all__ = ["pieces", "read_four", "read_npz"]


def read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    """The arrays of these names.

    Raises:
        ValueError: the file is no whole archive, or one is missing.
    """
    with (
        parsing(path, ".npz archive"),
        # Opened here: np.load leaves its own file open when the archive is broken.
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        found = {key: archive[key] for key in keys if key in archive.files}
        there = sorted(archive.files)
    if len(found) < len(keys):
        raise refused(path, f"the archive must hold {', '.join(keys)}", f"{there}")

    return found


def read_four(paths: tuple[Path, ...]) -> Parts:
    """``x_train, y_train, x_test, y_test`` of one file."""
    arrays = read_npz(paths[0], ("x_train", "y_train", "x_test", "y_test"))

    return (
        Raw(arrays["x_train"], arrays["y_train"]),
        Raw(arrays["x_test"], arrays["y_test"]),
    )


def pieces(path: Path, name: str, values: Array, offsets: Array, dtype: str) -> Iterator[Array]:
    """Pieces of different lengths that lie in one array.

    Args:
        path: for errors.
        name: of the array.
        values: one piece after another.
        offsets: where each begins, and where the last ends.
        dtype: of the values.

    Raises:
        ValueError: values of another type or shape, or offsets that do not cut them.
    """
    if values.ndim != 1 or values.dtype != dtype:
        rule = f"{name} must be {dtype} of shape (n,)"
        raise refused(path, rule, f"{values.dtype} {values.shape}")
    cuts = offsets.ndim == 1 and len(offsets) > 1 and np.issubdtype(offsets.dtype, np.integer)
    if not (cuts and offsets[0] == 0 and offsets[-1] == len(values) and _rises(offsets)):
        rule = f"the offsets of {name} must rise from 0 to its length"
        raise refused(path, rule, f"{offsets.dtype} {offsets.shape} for {len(values)} values")

    return (values[start:end] for start, end in pairwise(offsets.tolist()))


def _rises(offsets: Array) -> bool:
    return bool((offsets[1:] > offsets[:-1]).all())
