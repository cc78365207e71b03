"""However a file is damaged: it is refused by its name, or it can still be read."""

import random
from pathlib import Path

import pytest

from batchnorm.lab.data import _cifar, load
from tests.lab.data import files
from tests.lab.small import write_mnist

FORMATS = {
    "npz": ("mnist", write_mnist),
    "idx": ("mnist", lambda folder: files.write_idx(folder, suffix="")),
    "idx.gz": ("mnist", files.write_idx),
    "tar.gz": ("cifar10", lambda folder: files.write_archive(folder / files.ARCHIVE, 4)),
    "jpeg": ("cifar10", files.write_jpeg),
    "mat": ("svhn", lambda folder: [files.write_mat(folder / name, 4) for name in files.MATS]),
    "waves": ("spoken_digits", files.write_waves),
    "wav": ("spoken_digits", lambda folder: files.write_recordings(folder / "recordings")),
    "csv": ("housing", files.write_houses),
}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Cut short, with a few other bytes (more often near the head), or with a piece replaced."""
    kind, where = chance.choice(("cut", "bytes", "piece")), chance.randrange(len(content))
    if kind == "cut":
        return content[:where]
    if kind == "piece":
        zeros = bytes(chance.randint(0, 60))
        return content[:where] + zeros + content[where + chance.randint(1, 60) :]
    found = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        end = min(len(found), chance.choice((400, len(found))))
        found[chance.randrange(end)] = chance.randrange(256)

    return bytes(found)


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_refused_or_harmless(tmp_path: Path, monkeypatch, form: str):
    name, write = FORMATS[form]
    files.unchecked(monkeypatch, name)
    monkeypatch.setattr(_cifar, "IMAGES", 4)
    write(tmp_path)
    chance = random.Random(0)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    refusals = []
    for _ in range(20):
        path = chance.choice(paths)
        content = path.read_bytes()
        path.write_bytes(damaged(content, chance))
        load.cache_clear()
        try:
            load(name, tmp_path)
        except ValueError as error:
            refusals.append(str(error))
        path.write_bytes(content)

    assert refusals
    assert all(f"'{tmp_path}" in message for message in refusals)
