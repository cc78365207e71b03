"""Downloads: by a library that is replaced here, so that nothing needs the network."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from batchnorm.lab.data import CATALOGUE, download, is_there, load, overview
from tests.lab.data import files

GREY = (28, 28)


class Table(dict):
    """As much of a table of ``datasets`` as is needed."""

    column_names = property(list)

    def cast_column(self, name: str, feature: object) -> "Table":
        assert feature == "files"
        return self


@pytest.fixture
def hub(monkeypatch):
    """What was asked for; ``tables`` is the answer, or an exception."""

    def load_dataset(repository: str, **options: object) -> object:
        asked.calls.append((repository, options))
        if isinstance(asked.tables, Exception):
            raise asked.tables
        return asked.tables

    def part(count: int, seed: int) -> Table:
        pictures = files.cells(files.images(count, GREY, seed))
        return Table(image=pictures, label=files.labels(count).tolist())

    asked = SimpleNamespace(calls=[], tables={"train": part(6, 0), "test": part(3, 1)})
    library = SimpleNamespace(load_dataset=load_dataset, Image=lambda decode: "files")
    monkeypatch.setitem(sys.modules, "datasets", library)
    entry = CATALOGUE["mnist"]
    tiny = replace(entry, sizes=(6, 3), hub=replace(entry.hub, sha256=""))
    monkeypatch.setitem(CATALOGUE, "mnist", tiny)

    return asked


def test_what_was_downloaded_is_found(hub, cache: Path):
    path = download("mnist")

    assert path == cache / "downloads" / "mnist.npz"
    parts = {"train": "mnist/train-*", "test": "mnist/test-*"}
    assert hub.calls == [("ylecun/mnist", {"data_files": parts, "verification_mode": "no_checks"})]
    assert is_there("mnist")
    assert overview(names=["mnist"])["where"].item() == str(path)
    data = load("mnist")
    assert torch.equal((data.x_train[:, 0] * 255).byte(), torch.from_numpy(files.images(6, GREY)))
    assert data.y_test.tolist() == files.labels(3).tolist()


def test_a_named_folder_comes_before_downloads(hub, tmp_path: Path, monkeypatch):
    download("mnist")
    files.unchecked(monkeypatch, "mnist")
    assert len(load("mnist", tmp_path).x_train) == 6
    files.write_idx(tmp_path, train=5)
    load.cache_clear()

    assert len(load("mnist", tmp_path).x_train) == 5


def test_right_arrays_pass_the_check(hub, monkeypatch):
    digest = hashlib.sha256()
    for count, seed in ((6, 0), (3, 1)):
        digest.update(files.images(count, GREY, seed).tobytes() + files.labels(count).tobytes())
    entry = CATALOGUE["mnist"]
    known = replace(entry, hub=replace(entry.hub, sha256=digest.hexdigest()))
    monkeypatch.setitem(CATALOGUE, "mnist", known)

    assert download("mnist").is_file()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sizes": (6, 4)}, r"must have 6 and 4 examples. Got 6 and 3"),
        ({"sha256": "0" * 64}, "SHA-256 of its arrays must be 0000000000000000…"),
        ({"image": "picture"}, "must have the columns picture and label. Got image, label"),
        ({"shape": (32, 32)}, r"x_train must be uint8 of shape \(n, 32, 32\)"),
    ],
)
def test_what_is_not_the_dataset_is_not_kept(hub, cache: Path, monkeypatch, changes, rule: str):
    entry = CATALOGUE["mnist"]
    wanted = replace(entry.wanted, shape=changes.pop("shape", GREY))
    entry = replace(entry, wanted=wanted, sizes=changes.pop("sizes", entry.sizes))
    monkeypatch.setitem(CATALOGUE, "mnist", replace(entry, hub=replace(entry.hub, **changes)))

    with pytest.raises(ValueError, match=rule):
        download("mnist")

    assert not list(cache.rglob("*.npz"))


def test_broken_image_is_refused(hub):
    hub.tables["test"]["image"][1] = {"bytes": b"not an image", "path": None}

    with pytest.raises(ValueError, match="every image must be whole"):
        download("mnist")


def test_offline_says_what_to_put_where(hub):
    hub.tables = ConnectionError("Couldn't reach the Hub")

    with pytest.raises(ConnectionError) as caught:
        download("mnist")

    message = str(caught.value)
    assert "mnist: https://huggingface.co/datasets/ylecun/mnist must be in reach" in message
    assert "Got ConnectionError: Couldn't reach the Hub. Try again" in message
    assert "Put mnist.npz, or train-images-idx3-ubyte" in message
    assert "into a folder that --data or BATCHNORM_DATA names" in message


def test_interrupted_download_is_no_error_of_ours(hub):
    hub.tables = None
    sys.modules["datasets"].load_dataset = _interrupted

    with pytest.raises(KeyboardInterrupt):
        download("mnist")


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(RuntimeError, match=r"pip install 'batchnorm\[lab,download\]'"):
        download("mnist")


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("digits", "It comes with scikit-learn"),
        ("spoken_digits", "Put fsdd.npz, or free-spoken-digit-dataset/recordings"),
    ],
)
def test_what_is_not_on_the_hub_is_refused(name: str, cure: str):
    with pytest.raises(ValueError, match=rf"it must be on the Hub. Got none there. {cure}"):
        download(name)
