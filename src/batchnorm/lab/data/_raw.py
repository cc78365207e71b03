"""Raw data: what a file holds, checked, before anything is prepared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..._errors import explain

__all__ = ["Array", "Kind", "Parts", "Raw", "Source", "Wanted", "parsing", "refused"]

Array = npt.NDArray[Any]
Kind = Literal["images", "sequences", "table"]


@dataclass(frozen=True, eq=False)
class Raw:
    """Examples of one part.

    Args:
        x: images ``(n, H, W)`` or ``(n, H, W, C)``, sequences ``(n, L, F)``, a table ``(n, F)``.
        y: ``(n,)``, integers for classes.
        lengths: of sequences.
    """

    x: Array
    y: Array
    lengths: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    def pick(self, index: Array) -> "Raw":
        """Some examples."""
        lengths = None if self.lengths is None else self.lengths[index]
        return Raw(self.x[index], self.y[index], lengths)


Parts = tuple[Raw, Raw]


@dataclass(frozen=True)
class Wanted:
    """What raw examples must be.

    Args:
        shape: of one example; -1 for any length.
        classes: labels 0, 1, ...; 0 for numbers.
        dtype: of the examples.
    """

    shape: tuple[int, ...]
    classes: int
    dtype: str = "uint8"

    def check(self, where: str, parts: Parts) -> None:
        """Refuse what is not like that.

        Raises:
            ValueError: shape, dtype or labels are wrong.
        """
        for part, raw in zip(("train", "test"), parts, strict=True):
            self._check_examples(where, part, raw.x)
            self._check_labels(where, part, raw)

    def _check_examples(self, where: str, part: str, x: Array) -> None:
        sizes = ", ".join("L" if size < 0 else str(size) for size in self.shape)
        fits = x.ndim == len(self.shape) + 1 and all(
            wanted in (-1, size) for wanted, size in zip(self.shape, x.shape[1:], strict=True)
        )
        if not fits or x.dtype != self.dtype or len(x) == 0:
            rule = f"x_{part} must be {self.dtype} of shape (n, {sizes})"
            raise refused(where, rule, f"{x.dtype} {x.shape}")

    def _check_labels(self, where: str, part: str, raw: Raw) -> None:
        y, count = raw.y, len(raw.x)
        kind, what = (np.integer, "integers") if self.classes else (np.floating, "numbers")
        if y.shape != (count,) or not np.issubdtype(y.dtype, kind):
            rule = f"y_{part} must be {what} of shape ({count},), one per example"
            raise refused(where, rule, f"{y.dtype} {y.shape}")
        if self.classes and (y.min() < 0 or y.max() >= self.classes):
            rule = f"y_{part} must be classes 0 to {self.classes - 1}"
            raise refused(where, rule, f"{y.min()} to {y.max()}")


@dataclass(frozen=True)
class Source:
    """One way in which a dataset lies in a folder.

    Args:
        named: what lies there, in words.
        files: names, or patterns of which the first that fits counts; all are needed.
        read: the examples in those files.
        places: where in the folder they may lie.
        sha256: of the files, where their true content is known.
        of_content: `sha256` is of what is inside files that end in ``.gz``.
        slow: what was read is kept in the cache.
        decoder: package whose version decides what is read.
    """

    named: str
    files: tuple[str, ...]
    read: Callable[[tuple[Path, ...]], Parts]
    places: tuple[str, ...] = ("",)
    sha256: tuple[str, ...] = ()
    of_content: bool = False
    slow: bool = False
    decoder: str = ""

    def find(self, folder: Path) -> tuple[Path, ...] | None:
        """The files in the folder; None if any is not there."""
        for place in self.places:
            found = [sorted((folder / place).glob(file)) for file in self.files]
            if all(found):
                return tuple(fitting[0] for fitting in found)

        return None


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Refuse a file that the body cannot read.

    Args:
        path: the file.
        what: it must be, such as ``"MATLAB file"``.
    """
    try:
        yield
    except Exception as error:  # a damaged file makes a parser stumble anywhere
        text = str(error).partition("\n")[0]
        got = f"{path.stat().st_size} bytes that end early or are none ({text})"
        raise refused(path, f"the file must be a whole {what}", got) from error


def refused(where: object, rule: str, got: str) -> ValueError:
    """The error for a file that is not what it should be."""
    cure = "Put the whole file there: `batchnorm lab data` says where it comes from"
    return ValueError(explain(f"'{where}'", rule, got, cure))
