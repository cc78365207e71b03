"""Decoded arrays on disk, so that every process but the first gets them at once."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .._whole import sweep, write_whole
from ._raw import Array, Parts, Raw

__all__ = ["CACHE_VARIABLE", "cache_folder", "cached", "saver"]

CACHE_VARIABLE = "BATCHNORM_CACHE"


def cache_folder() -> Path:
    """``BATCHNORM_CACHE``, or the folder ``batchnorm`` beside torch's own cache."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")

    return (Path(base) if base else Path.home() / ".cache") / "batchnorm"


def cached(key: str, make: Callable[[], Parts]) -> Parts:
    """What `make` returns, from the second time on mapped from disk.

    Two processes may do this at once: each file is there as a whole or not at all, and the small
    one, without which the others do not count, comes last. A cache that cannot be written is done
    without, and said so.

    Args:
        key: names the content; the same key has the same arrays.
        make: returns them, or raises; then nothing is kept.
    """
    folder = cache_folder() / "arrays"
    found = _read(folder, key)
    if found is not None:
        return found
    parts = make()
    try:
        _write(folder, key, parts)
    except OSError as error:
        warnings.warn(
            f"Decoded data is not kept: {error}. Every process decodes it again. "
            f"Name a folder that can be written by {CACHE_VARIABLE}.",
            RuntimeWarning,
            stacklevel=2,
        )

    return parts


def _read(folder: Path, key: str) -> Parts | None:
    """What is kept; None if it is not there, or damaged."""
    try:
        with (folder / f"{key}.npz").open("rb") as file, np.load(file, allow_pickle=False) as small:
            held = dict(small)
        train, test = (
            Raw(
                np.load(folder / f"{key}-{name}.npy", mmap_mode="r", allow_pickle=False),
                held[f"y_{name}"],
                held.get(f"lengths_{name}"),
            )
            for name in ("train", "test")
        )
    except Exception:  # a damaged file makes a parser stumble anywhere
        return None

    return train, test


def _write(folder: Path, key: str, parts: Parts) -> None:
    sweep(folder)
    small: dict[str, Array] = {}
    for name, raw in zip(("train", "test"), parts, strict=True):
        write_whole(folder / f"{key}-{name}.npy", saver(raw.x))
        small[f"y_{name}"] = raw.y
        if raw.lengths is not None:
            small[f"lengths_{name}"] = raw.lengths
    write_whole(folder / f"{key}.npz", saver(small))


def saver(value: Array | dict[str, Any]) -> Callable[[Path], None]:
    """Writes an array as ``.npy``, or several as ``.npz``, down to the disk."""

    def save(path: Path) -> None:
        with path.open("wb") as file:
            if isinstance(value, dict):
                np.savez(file, **value)
            else:
                np.save(file, value, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())

    return save
