"""Files that are not the published ones are refused, and so are those that a list contradicts."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from batchnorm.lab.data import CATALOGUE, load
from tests.lab.data import files
from tests.lab.small import write_mnist


def publish(monkeypatch: pytest.MonkeyPatch, name: str, *sha256: str) -> None:
    """As if these were the published checksums of the source with as many files."""
    entry = CATALOGUE[name]
    sources = tuple(
        replace(source, sha256=sha256 if len(source.files) == len(sha256) else ())
        for source in entry.sources
    )
    monkeypatch.setitem(CATALOGUE, name, replace(entry, sources=sources))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_tiny_files_are_not_mnist(tmp_path: Path):
    files.write_idx(tmp_path)

    rule = "its checksum must be that of the published file. Got SHA-256 [0-9a-f]{16}… instead of"
    with pytest.raises(ValueError, match=rule):
        load("mnist", tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_is_inside_counts_for_mnist(tmp_path: Path, monkeypatch, suffix: str):
    paths = files.write_idx(tmp_path, suffix=suffix)
    contents = [path.read_bytes() for path in paths.values()]
    published = [gzip.decompress(content) if suffix else content for content in contents]
    publish(monkeypatch, "mnist", *map(sha256, published))

    assert len(load("mnist", tmp_path).x_train) == 6
    files.write_idx(tmp_path, train=7, suffix=suffix)
    load.cache_clear()
    with pytest.raises(ValueError, match="that of the published file"):
        load("mnist", tmp_path)


def test_the_packed_file_counts_for_fashion_mnist(tmp_path: Path, monkeypatch):
    paths = files.write_idx(tmp_path / "fashion_mnist")
    publish(monkeypatch, "fashion_mnist", *(sha256(p.read_bytes()) for p in paths.values()))
    assert len(load("fashion_mnist", tmp_path).x_train) == 6
    load.cache_clear()
    path = paths["train-images-idx3-ubyte"]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))

    with pytest.raises(ValueError, match="that of the published file"):
        load("fashion_mnist", tmp_path)


def test_a_list_beside_the_file_is_kept_to(tmp_path: Path):
    path = write_mnist(tmp_path)
    right = sha256(path.read_bytes())
    listed = tmp_path / "SHA256SUMS"
    listed.write_text(f"{'0' * 64}  other.npz\n\nhash\n{right.upper()}  mnist.npz\n")
    assert len(load("mnist", tmp_path).x_train) == 130
    load.cache_clear()
    listed.write_text(f"{'0' * 64} *mnist.npz\n")

    with pytest.raises(ValueError, match="its checksum must be that in SHA256SUMS"):
        load("mnist", tmp_path)


def test_a_file_of_the_same_arrays_is_another_file(tmp_path: Path):
    """The digest is of files: it must differ where the bytes differ, and may where they do not."""
    files.write_waves(tmp_path)
    first = load("spoken_digits", tmp_path).digest
    load.cache_clear()
    files.write_waves(tmp_path, y_test=files.labels(2))

    assert load("spoken_digits", tmp_path).digest != first


def test_digest_of_a_folder_follows_each_file(tmp_path: Path):
    folder = tmp_path / "recordings"
    files.write_recordings(folder)
    first = load("spoken_digits", tmp_path).digest
    load.cache_clear()
    files.write_wave(folder / "7_bob_12.wav", files.tone(2001, 1000))

    assert load("spoken_digits", tmp_path).digest != first
