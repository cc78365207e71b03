"""CIFAR-10 as JPEG streams in one archive."""

import io
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from ._npz import read_npz
from ._raw import Array, Parts, Raw, refused

__all__ = ["read_jpeg", "decoded"]

KEYS = tuple(f"{key}_{part}" for part in ("train", "test") for key in ("jpg", "off", "y"))


def read_jpeg(paths: tuple[Path, ...]) -> Parts:
    """``jpg_*`` holds one stream after another, ``off_*`` where each begins and the last ends."""
    arrays = read_npz(paths[0], KEYS)

    def part(name: str) -> Raw:
        streams, offsets = arrays[f"jpg_{name}"].tobytes(), arrays[f"off_{name}"].tolist()
        cut = (streams[a:b] for a, b in pairwise(offsets))
        return Raw(decoded(paths[0], cut), arrays[f"y_{name}"])

    return part("train"), part("test")


def decoded(where: Path, streams: Iterable[bytes]) -> Array:
    """Images ``(n, H, W, 3)`` from files of any format that Pillow reads."""
    from PIL import Image

    try:
        return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in streams])
    except (OSError, ValueError) as error:
        rule = "every image must be whole and of the same size"
        raise refused(where, rule, f"{error}") from error
