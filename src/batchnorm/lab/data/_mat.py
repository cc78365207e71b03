"""SVHN's cropped digits: files of MATLAB."""

import zlib
from pathlib import Path

import numpy as np

from ._raw import Parts, Raw, refused

__all__ = ["read_mat"]

# What scipy raises, beside its own, for a file that is cut short, is none, or of a later version.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    NotImplementedError,
    zlib.error,
)


def read_mat(paths: tuple[Path, ...]) -> Parts:
    """``train_32x32.mat`` and ``test_32x32.mat``."""
    train, test = map(_part, paths)

    return train, test


def _part(path: Path) -> Raw:
    """``X (32, 32, 3, n)``, ``y (n, 1)`` with 10 for the digit 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path, variable_names=("X", "y"))
    except (*UNREADABLE, MatReadError) as error:
        got = f"{path.stat().st_size} bytes that end early or are none ({error})"
        raise refused(path, "the file must be a whole MATLAB file", got) from error
    if not {"X", "y"} <= held.keys():
        raise refused(path, "the file must hold X and y", f"{sorted(held)}")
    labels = held["y"].reshape(-1)

    return Raw(np.moveaxis(held["X"], -1, 0), np.where(labels == 10, 0, labels))
