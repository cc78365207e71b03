"""Tiny files in the formats of the catalogue, made from arrays."""

import gzip
import io
import struct
import tarfile
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from batchnorm.lab.data import CATALOGUE

COLOURS = (32, 32, 3)
ARCHIVE = "cifar-10-binary.tar.gz"
MATS = ("train_32x32.mat", "test_32x32.mat")
BINS = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def images(count: int, shape: tuple[int, ...] = COLOURS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count: int) -> np.ndarray:
    return (np.arange(count) * 7 % 10).astype(np.uint8)


def unchecked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Take the published checksums away, which tiny files cannot have."""
    entry = CATALOGUE[name]
    sources = tuple(replace(source, sha256=()) for source in entry.sources)
    monkeypatch.setitem(CATALOGUE, name, replace(entry, sources=sources))


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def write_idx(folder: Path, train: int = 6, test: int = 3, suffix: str = ".gz") -> dict[str, Path]:
    """The four files; by name without the suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "train-images-idx3-ubyte": images(train, (28, 28)),
        "train-labels-idx1-ubyte": labels(train),
        "t10k-images-idx3-ubyte": images(test, (28, 28), seed=1),
        "t10k-labels-idx1-ubyte": labels(test),
    }
    paths = {name: folder / f"{name}{suffix}" for name in contents}
    for name, path in paths.items():
        content = idx(contents[name])
        path.write_bytes(gzip.compress(content) if suffix else content)

    return paths


def bins(rows: int) -> list[bytes]:
    """CIFAR-10's six files, `rows` images each."""
    return [
        b"".join(
            bytes([label]) + image.transpose(2, 0, 1).tobytes()
            for label, image in zip(labels(rows), images(rows, seed=seed), strict=True)
        )
        for seed in range(6)
    ]


def write_bins(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True)
    for name, content in zip(BINS, bins(rows), strict=True):
        (folder / name).write_bytes(content)


def write_archive(path: Path, rows: int, names: tuple[str, ...] = BINS) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in zip(names, bins(rows), strict=False):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_mat(path: Path, count: int, **changes: object) -> None:
    """SVHN's layout: images last, 10 for the digit 0."""
    y = labels(count).astype(np.uint8)
    held = {"X": np.moveaxis(images(count), 0, -1), "y": np.where(y == 0, 10, y)[:, None]}
    savemat(path, {**held, **changes})


def encoded(image: np.ndarray, form: str) -> bytes:
    held = io.BytesIO()
    Image.fromarray(image).save(held, form)
    return held.getvalue()


def cells(pictures: np.ndarray) -> list[dict[str, object]]:
    """A column of images as ``datasets`` has it."""
    return [{"bytes": encoded(picture, "PNG"), "path": "image.png"} for picture in pictures]


def write_jpeg(folder: Path, train: int = 4, test: int = 2, **changes: np.ndarray) -> Path:
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        streams = [encoded(image, "JPEG") for image in images(count)]
        arrays[f"jpg_{part}"] = np.frombuffer(b"".join(streams), np.uint8)
        arrays[f"off_{part}"] = np.cumsum([0, *map(len, streams)])
        arrays[f"y_{part}"] = labels(count)
    path = folder / "cifar10_jpeg.npz"
    np.savez(path, **(arrays | changes))

    return path


def tone(hertz: float, samples: int) -> np.ndarray:
    """A sine at 8 kHz, half of full scale."""
    time = np.arange(samples) / 8000
    return np.round(2**14 * np.sin(2 * np.pi * hertz * time)).astype("<i2")


RECORDINGS = [  # digit, speaker, number, samples
    (3, "ann", 0, tone(500, 900)),
    (3, "ann", 5, tone(1000, 360)),
    (7, "bob", 12, tone(2000, 1000)),
    (9, "bob", 4, tone(3000, 100)),
]


def write_recordings(folder: Path) -> None:
    folder.mkdir(parents=True)
    for digit, speaker, number, samples in RECORDINGS:
        write_wave(folder / f"{digit}_{speaker}_{number}.wav", samples)


def write_wave(path: Path, samples: np.ndarray, rate: int = 8000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def write_waves(folder: Path, **changes: np.ndarray) -> Path:
    """The same recordings in one archive, in the order of their files' names."""
    arrays: dict[str, np.ndarray] = {}
    for part, test in (("train", False), ("test", True)):
        chosen = [item for item in RECORDINGS if (item[2] < 5) == test]
        arrays[f"wav_{part}"] = np.concatenate([item[3] for item in chosen])
        arrays[f"off_{part}"] = np.cumsum([0, *(len(item[3]) for item in chosen)])
        arrays[f"y_{part}"] = np.array([item[0] for item in chosen], np.uint8)
    path = folder / "fsdd.npz"
    np.savez(path, **(arrays | changes))

    return path


def write_houses(folder: Path) -> None:
    """Eight of them; the fourth has no number of bedrooms."""
    rows = ["longitude,latitude,age,rooms,bedrooms,people,homes,income,median_house_value,ocean"]
    rows += [f"{i}.5,2.0,3.0,4,{'' if i == 3 else i},6,7,8.5,{100 * i},NEAR BAY" for i in range(8)]
    (folder / "housing.csv").write_text("\n".join(rows))
