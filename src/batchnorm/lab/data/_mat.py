"""SVHN's cropped digits: files of MATLAB."""

from pathlib import Path

import numpy as np

from ._raw import Parts, Raw, parsing, refused

__all__ = ["read_mat"]


def read_mat(paths: tuple[Path, ...]) -> Parts:
    """``train_32x32.mat`` and ``test_32x32.mat``."""
    train, test = map(_part, paths)

    return train, test


def _part(path: Path) -> Raw:
    """``X (32, 32, 3, n)``, ``y (n, 1)`` with 10 for the digit 0."""
    from scipy.io import loadmat

    with parsing(path, "MATLAB file"):
        held = loadmat(path, variable_names=("X", "y"))
    if not {"X", "y"} <= held.keys():
        raise refused(path, "the file must hold X and y", f"{sorted(held)}")
    labels = held["y"].reshape(-1)

    return Raw(np.moveaxis(held["X"], -1, 0), np.where(labels == 10, 0, labels))
