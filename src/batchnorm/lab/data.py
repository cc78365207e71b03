"""Datasets: loaded, checked and prepared in one way, refused with a cure when they are wrong."""

import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["DATA_VARIABLE", "MNIST_FILE", "Dataset", "DatasetName", "data_folder", "load"]

DatasetName = Literal["digits", "mnist"]
Array = npt.NDArray[Any]

DATA_VARIABLE = "BATCHNORM_DATA"
MNIST_FILE = "mnist.npz"
MNIST_KEYS = ("x_train", "y_train", "x_test", "y_test")
CLASSES = 10
DIGITS_TRAIN = 1200
# What numpy raises for a file that is cut short, is no archive, or holds pickled objects.
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification problem, flattened and ready to train on.

    Args:
        name: key of :func:`load`.
        title: the name as people know it.
        preparation: what was done to the raw values, in words.
        x_train: ``(n, features)`` float32.
        y_train: ``(n,)`` int64, classes 0 to 9.
        x_test: ``(m, features)`` float32.
        y_test: ``(m,)`` int64.
        digest: SHA-256 of the four arrays.
    """

    name: DatasetName
    title: str
    preparation: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    digest: str

    @property
    def features(self) -> int:
        """Numbers per example."""
        return self.x_train.shape[1]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return CLASSES

    @property
    def constant_loss(self) -> float:
        """Cross entropy (nats) of the best constant prediction: the labels' entropy."""
        share = torch.bincount(self.y_train, minlength=CLASSES).double() / len(self.y_train)
        return float(-torch.special.xlogy(share, share).sum())

    @property
    def constant_accuracy(self) -> float:
        """Test accuracy of always naming the commonest training class."""
        commonest = torch.bincount(self.y_train, minlength=CLASSES).argmax()
        return float((self.y_test == commonest).double().mean())


def data_folder(option: Path | None = None) -> Path | None:
    """The folder that the user named, by option or else by ``BATCHNORM_DATA``, or None.

    Raises:
        ValueError: the name is given but no such folder exists.
    """
    source = "--data" if option is not None else DATA_VARIABLE
    named = option if option is not None else os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise ValueError(
            f"{source}: the data folder must exist. Got {folder}. "
            f"Name the folder that holds {MNIST_FILE}, or leave {source} out to use the digits "
            "bundled with scikit-learn."
        )
    return folder


@lru_cache(maxsize=2)
def load(name: DatasetName, folder: Path | None = None) -> Dataset:
    """A dataset by name; kept in memory, so that the trials of one process load it once.

    Args:
        name: ``digits`` (bundled with scikit-learn) or ``mnist`` (``mnist.npz`` in `folder`).
        folder: where the files lie; not needed for ``digits``.

    Raises:
        ValueError: unknown name, or a file that is missing, unreadable or of the wrong shape.
    """
    if name == "digits":
        return _load_digits()
    if name == "mnist":
        return _load_mnist(folder)
    raise ValueError(
        f"load: the dataset must be known. Got {name!r}. Use one of {get_args(DatasetName)}."
    )


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    raw = load_digits()
    x, y = raw.data.astype(np.float32) / 16, raw.target
    return _dataset(
        "digits",
        "scikit-learn digits",
        "8×8 grey levels 0 to 16 divided by 16; the first 1,200 images train, "
        "the last 597 (later in the file's order, partly by other writers) test",
        (x[:DIGITS_TRAIN], y[:DIGITS_TRAIN], x[DIGITS_TRAIN:], y[DIGITS_TRAIN:]),
    )


def _load_mnist(folder: Path | None) -> Dataset:
    if folder is None:
        raise ValueError(
            f"mnist: a folder with {MNIST_FILE} must be named. Got none. "
            f"Use --data FOLDER or set {DATA_VARIABLE}."
        )
    path = folder / MNIST_FILE
    arrays = _read_npz(path, MNIST_KEYS)
    for part in ("train", "test"):
        _check_part(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"])
    x = {part: _binarise(arrays[f"x_{part}"]) for part in ("train", "test")}
    if x["train"].min() == x["train"].max():
        raise _refused(path, "images must have grey levels on both sides of 128", "one side only")
    return _dataset(
        "mnist",
        "MNIST",
        "28×28 grey levels made binary (1 where the level is 128 or more), as in the paper",
        (x["train"], arrays["y_train"], x["test"], arrays["y_test"]),
    )


def _read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    if not path.is_file():
        raise _refused(path, "the file must exist", "no such file")
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
        raise _refused(path, "the file must be a whole .npz archive", got) from error
    raise _refused(path, f"the archive must hold {', '.join(keys)}", f"{found}")


def _check_part(path: Path, part: str, x: Array, y: Array) -> None:
    if x.ndim != 3 or x.shape[1:] != (28, 28) or x.dtype != np.uint8 or len(x) == 0:
        raise _refused(path, f"x_{part} must be uint8 of shape (n, 28, 28)", f"{x.dtype} {x.shape}")
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        rule = f"y_{part} must be integers of shape ({len(x)},), one per image"
        raise _refused(path, rule, f"{y.dtype} {y.shape}")
    if y.min() < 0 or y.max() >= CLASSES:
        raise _refused(path, f"y_{part} must be digits 0 to 9", f"{y.min()} to {y.max()}")


def _refused(path: Path, rule: str, got: str) -> ValueError:
    return ValueError(
        f"mnist at '{path}': {rule}. Got {got}. Put a complete {MNIST_FILE} there "
        "(uint8 x_train (60000, 28, 28), y_train (60000,), x_test (10000, 28, 28), y_test "
        "(10000,)), or leave --data out to use the digits bundled with scikit-learn."
    )


def _binarise(x: Array) -> Array:
    return (x.reshape(len(x), -1) >= 128).astype(np.float32)


def _dataset(name: DatasetName, title: str, preparation: str, arrays: tuple[Array, ...]) -> Dataset:
    x_train, y_train, x_test, y_test = (np.ascontiguousarray(array) for array in arrays)
    digest = hashlib.sha256()
    for array in (x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64)):
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return Dataset(
        name=name,
        title=title,
        preparation=preparation,
        x_train=torch.from_numpy(x_train),
        y_train=torch.from_numpy(y_train.astype(np.int64)),
        x_test=torch.from_numpy(x_test),
        y_test=torch.from_numpy(y_test.astype(np.int64)),
        digest=digest.hexdigest(),
    )
