"""CIFAR-10 in its binary version, as an archive or unpacked."""

import tarfile
from pathlib import Path

import numpy as np

from ._raw import Parts, Raw, parsing, refused

__all__ = ["BATCHES", "read_archive", "read_batches"]

BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
IMAGES = 10_000  # in each of the files
ROW = 1 + 3 * 32 * 32


def read_batches(paths: tuple[Path, ...]) -> Parts:
    """The five files that train and the one that tests."""
    return _joined(paths[0].parent, [path.read_bytes() for path in paths])


def read_archive(paths: tuple[Path, ...]) -> Parts:
    """The same files inside ``cifar-10-binary.tar.gz``; nothing is unpacked to disk."""
    path = paths[0]
    found: dict[str, bytes] = {}
    with parsing(path, "tar.gz archive"), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                found[Path(member.name).name] = content.read()
    missing = [name for name in BATCHES if name not in found]
    if missing:
        raise refused(path, f"the archive must hold {', '.join(BATCHES)}", f"no {missing[0]}")

    return _joined(path, [found[name] for name in BATCHES])


def _joined(where: Path, batches: list[bytes]) -> Parts:
    for name, content in zip(BATCHES, batches, strict=True):
        if len(content) != IMAGES * ROW:
            rule = f"{name} must have {IMAGES:,} images of {ROW} bytes"
            raise refused(where, rule, f"{len(content):,} bytes")

    return _rows(b"".join(batches[:-1])), _rows(batches[-1])


def _rows(content: bytes) -> Raw:
    """A label, then the image, channel by channel."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, ROW)

    return Raw(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0])
