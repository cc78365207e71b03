"""Images as files in memory: JPEG, PNG and what else Pillow reads."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ._npz import pieces, read_npz
from ._raw import Array, Parts, Raw, refused

__all__ = ["decoded", "read_jpeg"]

KEYS = tuple(f"{key}_{part}" for part in ("train", "test") for key in ("jpg", "off", "y"))


def read_jpeg(paths: tuple[Path, ...]) -> Parts:
    """``jpg_*`` holds one JPEG stream after another, ``off_*`` where each begins."""
    path = paths[0]
    arrays = read_npz(path, KEYS)

    def part(name: str) -> Raw:
        streams = pieces(path, f"jpg_{name}", arrays[f"jpg_{name}"], arrays[f"off_{name}"], "uint8")
        return Raw(decoded(path, (each.tobytes() for each in streams)), arrays[f"y_{name}"])

    return part("train"), part("test")


def decoded(where: object, files: Iterable[bytes]) -> Array:
    """Images ``(n, H, W)`` or ``(n, H, W, C)``.

    Raises:
        ValueError: one is no whole image, or of another size.
    """
    from PIL import Image

    try:
        return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    except Exception as error:  # a damaged file makes a decoder stumble anywhere
        rule = "every image must be whole and of one size"
        raise refused(where, rule, f"{error}") from error
