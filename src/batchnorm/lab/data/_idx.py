"""The IDX format of MNIST and Fashion-MNIST."""

import struct
from pathlib import Path

import numpy as np

from ._checksums import unpacked
from ._raw import Array, Parts, Raw, refused

__all__ = ["read_idx"]

BYTES = 0x08  # the code for uint8


def read_idx(paths: tuple[Path, ...]) -> Parts:
    """Images and labels that train, images and labels that test; each packed by gzip or not."""
    x_train, y_train, x_test, y_test = map(_array, paths)

    return Raw(x_train, y_train), Raw(x_test, y_test)


def _array(path: Path) -> Array:
    """Two zeros, the code of the type, the number of axes, their sizes, the values."""
    content = unpacked(path)
    rule = "the file must be a whole IDX file of bytes"
    if len(content) < 4 or content[:3] != bytes([0, 0, BYTES]):
        raise refused(path, rule, f"{len(content)} bytes that begin with {content[:4].hex()}")
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise refused(path, rule, f"{len(content)} bytes, less than its head")
    shape = struct.unpack(f">{axes}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    if len(values) != np.prod(shape, dtype=np.int64):
        raise refused(path, rule, f"{len(values)} bytes for an array of shape {shape}")

    return values.reshape(shape)
