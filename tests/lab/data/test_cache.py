"""Decoded arrays are kept once, whole, and never those of a file that was refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from batchnorm.lab.data import _pictures, load
from batchnorm.lab.data._cache import cache_folder
from tests.lab.data import files


@pytest.fixture
def decodings(monkeypatch):
    """How often images were decoded."""
    calls = []
    decode = _pictures.decoded

    def counted(where, streams):
        calls.append(where)
        return decode(where, streams)

    monkeypatch.setattr(_pictures, "decoded", counted)

    return calls


def again(folder: Path):
    load.cache_clear()
    return load("cifar10", folder)


def test_second_process_decodes_nothing(tmp_path: Path, decodings: list, cache: Path):
    files.write_jpeg(tmp_path)
    first = load("cifar10", tmp_path)
    second = again(tmp_path)

    assert len(decodings) == 2  # train and test, once
    assert second.digest == first.digest
    for name in ("x_train", "x_test", "y_train", "y_test"):
        assert torch.equal(getattr(second, name), getattr(first, name))
    assert len(list((cache / "arrays").iterdir())) == 3


def test_lengths_are_kept(tmp_path: Path):
    files.write_waves(tmp_path)
    first = load("spoken_digits", tmp_path)
    load.cache_clear()

    assert torch.equal(load("spoken_digits", tmp_path).lengths_train, first.lengths_train)


def test_tensors_do_not_write_through(tmp_path: Path):
    files.write_jpeg(tmp_path)
    load("cifar10", tmp_path)
    before = again(tmp_path).x_train.clone()
    again(tmp_path).x_train.fill_(0)

    assert torch.equal(again(tmp_path).x_train, before)


def test_other_content_is_decoded_anew(tmp_path: Path, decodings: list):
    files.write_jpeg(tmp_path)
    load("cifar10", tmp_path)
    files.write_jpeg(tmp_path, train=3)

    assert len(again(tmp_path).x_train) == 3
    assert len(decodings) == 4


def test_another_decoder_decodes_anew(tmp_path: Path, decodings: list, monkeypatch):
    files.write_jpeg(tmp_path)
    first = load("cifar10", tmp_path).digest
    monkeypatch.setattr("batchnorm.lab.data._read.version", lambda package: "another")

    assert again(tmp_path).digest != first
    assert len(decodings) == 4


@pytest.mark.parametrize("keep", [0, 100, -1])
@pytest.mark.parametrize("suffix", ["train.npy", "npz"])
def test_what_was_cut_short_is_decoded_anew(
    tmp_path: Path, cache: Path, decodings: list, keep: int, suffix: str
):
    files.write_jpeg(tmp_path)
    first = load("cifar10", tmp_path)
    (path,) = (cache / "arrays").glob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:keep])

    assert torch.equal(again(tmp_path).x_train, first.x_train)
    assert len(decodings) == 4
    assert torch.equal(again(tmp_path).x_train, first.x_train)
    assert len(decodings) == 4  # it was kept again


def test_nothing_refused_is_kept(tmp_path: Path, cache: Path):
    files.write_jpeg(tmp_path, y_train=files.labels(4) + 90)

    with pytest.raises(ValueError, match="classes 0 to 9"):
        load("cifar10", tmp_path)

    assert not (cache / "arrays").exists()


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch):
    files.write_jpeg(tmp_path)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BATCHNORM_CACHE", str(tmp_path / "file"))

    with pytest.warns(RuntimeWarning, match="Decoded data is not kept: .* by BATCHNORM_CACHE"):
        data = load("cifar10", tmp_path)

    assert len(data.x_train) == 4


def test_full_disk_leaves_nothing_behind(tmp_path: Path, cache: Path, monkeypatch):
    files.write_jpeg(tmp_path)

    def full(file, value, **_):
        file.write(b"begun")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        load("cifar10", tmp_path)

    assert list((cache / "arrays").iterdir()) == []


LOAD = """
import sys
from pathlib import Path
from batchnorm.lab.data import load
print(load("cifar10", Path(sys.argv[1])).x_train.double().sum().item())
"""


def test_two_processes_at_once(tmp_path: Path, cache: Path):
    files.write_jpeg(tmp_path)
    command = [sys.executable, "-c", LOAD, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1] == f"{load('cifar10', tmp_path).x_train.double().sum()}\n"
    assert len(list((cache / "arrays").iterdir())) == 3


def test_what_a_killed_process_has_begun_is_swept_away(tmp_path: Path, cache: Path):
    writer = subprocess.Popen([sys.executable, "-c", ""])
    writer.wait()
    (cache / "arrays").mkdir()
    begun = cache / "arrays" / f".cifar10-train.npy.part{writer.pid}"
    begun.write_bytes(b"half")
    files.write_jpeg(tmp_path)

    load("cifar10", tmp_path)

    assert not begun.exists()


def test_cache_lies_where_the_user_says(monkeypatch):
    monkeypatch.setenv("BATCHNORM_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("BATCHNORM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/batchnorm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path(os.path.expanduser("~")) / ".cache" / "batchnorm"
