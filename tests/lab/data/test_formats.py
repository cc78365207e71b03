"""The formats in which datasets are published, byte by byte; and what is wrong is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from batchnorm.lab.data import _cifar, load
from tests.lab.data import files


def levels(array: np.ndarray) -> torch.Tensor:
    """Images as :func:`load` gives them."""
    x = array[:, None] if array.ndim == 3 else np.moveaxis(array, -1, 1)
    return torch.from_numpy(x.astype(np.float32)) / 255


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_in_its_own_format(tmp_path: Path, monkeypatch, place: str, suffix: str):
    files.unchecked(monkeypatch, "mnist")
    files.write_idx(tmp_path / place, suffix=suffix)

    data = load("mnist", tmp_path)

    assert torch.equal(data.x_train, levels(files.images(6, (28, 28))))
    assert torch.equal(data.x_test, levels(files.images(3, (28, 28), seed=1)))
    assert data.y_train.tolist() == files.labels(6).tolist()
    assert data.y_train.dtype == torch.int64


def test_names_with_a_dot_are_known_too(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "mnist")
    for path in files.write_idx(tmp_path, suffix="").values():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))

    assert len(load("mnist", tmp_path).x_train) == 6


def test_fashion_mnist_lies_apart_from_mnist(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "fashion_mnist")
    files.write_idx(tmp_path)
    with pytest.raises(FileNotFoundError, match="fashion_mnist/train-images-idx3-ubyte"):
        load("fashion_mnist", tmp_path)
    files.write_idx(tmp_path / "FashionMNIST" / "raw", train=5)

    assert len(load("fashion_mnist", tmp_path).x_train) == 5


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "0 bytes that begin with"),
        (b"\x00\x00\x0d\x03" + bytes(12), "begin with 00000d03"),
        (b"\x00\x00\x08\x03" + bytes(5), "9 bytes, less than its head"),
        (files.idx(files.images(6, (28, 28)))[:-1], "4703 bytes for an array of shape (6, 28, 28)"),
        (files.idx(files.images(6, (28, 28))) + b"\x00", "4705 bytes for an array"),
    ],
)
def test_wrong_idx_is_refused(tmp_path: Path, monkeypatch, content: bytes, got: str):
    files.unchecked(monkeypatch, "mnist")
    path = files.write_idx(tmp_path, suffix="")["train-images-idx3-ubyte"]
    path.write_bytes(content)

    with pytest.raises(ValueError) as caught:
        load("mnist", tmp_path)

    assert str(caught.value).startswith(f"'{path}': the file must be a whole IDX file of bytes")
    assert got in str(caught.value)


@pytest.mark.parametrize("keep", [0, 20, -5])
def test_truncated_gzip_is_refused(tmp_path: Path, monkeypatch, keep: int):
    files.unchecked(monkeypatch, "mnist")
    path = files.write_idx(tmp_path)["train-images-idx3-ubyte"]
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ValueError, match="whole"):
        load("mnist", tmp_path)


def test_cifar_in_its_binary_version(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_cifar, "IMAGES", 4)
    files.write_bins(tmp_path / "cifar-10-batches-bin", rows=4)

    data = load("cifar10", tmp_path)

    expected = np.concatenate([files.images(4, seed=seed) for seed in range(5)])
    assert torch.equal(data.x_train, levels(expected))
    assert torch.equal(data.x_test, levels(files.images(4, seed=5)))
    assert data.y_train.tolist() == files.labels(4).tolist() * 5


def test_cifar_archive_is_the_same(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_cifar, "IMAGES", 4)
    files.unchecked(monkeypatch, "cifar10")
    for place in ("packed", "unpacked"):
        (tmp_path / place).mkdir()
    files.write_archive(tmp_path / "packed" / files.ARCHIVE, rows=4)
    files.write_bins(tmp_path / "unpacked" / "cifar-10-batches-bin", rows=4)

    packed, unpacked = (load("cifar10", tmp_path / place) for place in ("packed", "unpacked"))

    assert torch.equal(packed.x_train, unpacked.x_train)
    assert torch.equal(packed.y_test, unpacked.y_test)


def test_short_batch_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_cifar, "IMAGES", 4)
    files.write_bins(tmp_path / "cifar-10-batches-bin", rows=3)

    rule = r"data_batch_1.bin must have 4 images of 3073 bytes. Got 9,219 bytes"
    with pytest.raises(ValueError, match=rule):
        load("cifar10", tmp_path)


def test_archive_without_a_batch_is_refused(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "cifar10")
    files.write_archive(tmp_path / files.ARCHIVE, 1, names=files.BINS[:-1])

    with pytest.raises(ValueError, match="Got no test_batch.bin"):
        load("cifar10", tmp_path)


def test_truncated_archive_is_refused(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "cifar10")
    path = tmp_path / files.ARCHIVE
    files.write_archive(path, rows=4)
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(ValueError, match=r"must be a whole tar.gz archive. Got 5000 bytes"):
        load("cifar10", tmp_path)


def test_label_beyond_the_classes_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_cifar, "IMAGES", 1)
    files.write_bins(tmp_path / "cifar-10-batches-bin", rows=1)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])

    with pytest.raises(ValueError, match=r"y_test must be classes 0 to 9. Got 10 to 10"):
        load("cifar10", tmp_path)


def test_svhn_in_its_own_format(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "svhn")
    files.write_mat(tmp_path / "train_32x32.mat", 12)
    files.write_mat(tmp_path / "test_32x32.mat", 5)

    data = load("svhn", tmp_path)

    assert torch.equal(data.x_train, levels(files.images(12)))
    assert data.y_train.tolist() == files.labels(12).tolist()
    assert data.y_train[0] == 0  # the file says 10


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"X": np.zeros((32, 32, 3, 5))}, "x_train must be uint8 of shape"),
        ({"X": np.zeros((28, 28, 5), np.uint8)}, "x_train must be uint8 of shape"),
        ({"y": np.ones((4, 1), np.uint8)}, r"integers of shape \(5,\), one per example"),
        ({"y": np.full((5, 1), 11, np.uint8)}, "classes 0 to 9. Got 11 to 11"),
    ],
)
def test_wrong_svhn_is_refused(tmp_path: Path, monkeypatch, changes: dict, rule: str):
    files.unchecked(monkeypatch, "svhn")
    files.write_mat(tmp_path / "train_32x32.mat", 5, **changes)
    files.write_mat(tmp_path / "test_32x32.mat", 5)

    with pytest.raises(ValueError, match=rule):
        load("svhn", tmp_path)


@pytest.mark.parametrize("keep", [0, 50, 3000])
def test_truncated_svhn_is_refused(tmp_path: Path, monkeypatch, keep: int):
    files.unchecked(monkeypatch, "svhn")
    for part in ("train", "test"):
        files.write_mat(tmp_path / f"{part}_32x32.mat", 5)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ValueError, match=rf"must be a whole MATLAB file. Got {keep} bytes"):
        load("svhn", tmp_path)


def test_images_as_jpeg_streams(tmp_path: Path):
    files.write_jpeg(tmp_path)

    data = load("cifar10", tmp_path)

    assert data.x_train.shape == (4, 3, 32, 32)
    assert data.y_test.tolist() == files.labels(2).tolist()
    # Noise is what JPEG keeps worst; its mean is safe.
    means = levels(files.images(4)).mean((1, 2, 3))
    torch.testing.assert_close(data.x_train.mean((1, 2, 3)), means, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"off_train": np.array([0, 5])}, "offsets of jpg_train must rise from 0 to its length"),
        ({"off_train": np.array([0.0, 5.0])}, "offsets of jpg_train must rise"),
        ({"off_test": np.array([], np.int64)}, "offsets of jpg_test must rise"),
        ({"off_test": np.array([[0, 9]])}, "offsets of jpg_test must rise"),
        ({"jpg_train": np.zeros((3, 4), np.uint8)}, r"jpg_train must be uint8 of shape \(n,\)"),
        ({"y_train": files.labels(3)}, "y_train must be integers"),
        (
            {"jpg_test": np.zeros(9, np.uint8), "off_test": np.array([0, 9])},
            "every image must be whole and of one size",
        ),
    ],
)
def test_wrong_jpeg_streams_are_refused(tmp_path: Path, changes: dict, rule: str):
    files.write_jpeg(tmp_path, **changes)

    with pytest.raises(ValueError, match=rule):
        load("cifar10", tmp_path)


def test_housing_table_as_published(tmp_path: Path):
    files.write_houses(tmp_path)

    data = load("housing", tmp_path)

    assert data.x_train.shape == (6, 8)
    assert data.classes == 0
    assert data.y_train.dtype == torch.float32
    everything = torch.cat([data.x_train, data.x_test])
    first = everything[everything[:, 0].argsort()]
    assert first[:, 0].tolist() == [i + 0.5 for i in range(8)]
    known = [i for i in data.x_train[:, 0].sub(0.5).tolist() if i != 3]
    assert first[3, 4] == np.median(known)  # what is missing is the median of what trains


def test_file_that_is_no_table_is_refused(tmp_path: Path):
    (tmp_path / "housing.csv").write_text("a,b\n1,2\n")

    with pytest.raises(ValueError, match="must be a whole table with median_house_value"):
        load("housing", tmp_path)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"housing_x": np.zeros(8)}, r"float64 of shape \(n, features\) and \(n,\)"),
        ({"housing_y": np.zeros(7)}, "float64 of shape"),
        ({"housing_y": np.zeros(8, np.int64)}, "float64 of shape"),
        ({"housing_x": np.full((8, 8), "near")}, "float64 of shape"),
        ({"housing_x": np.full((8, 8), np.nan)}, "no feature may be empty"),
        ({"housing_y": np.full(8, np.nan)}, "every house must have a price. Got 0 prices of 8"),
    ],
)
def test_wrong_housing_table_is_refused(tmp_path: Path, changes: dict, rule: str):
    right = {"housing_x": np.ones((8, 8)), "housing_y": np.arange(8.0)}
    np.savez(tmp_path / "tabular.npz", **(right | changes))

    with pytest.raises(ValueError, match=rule):
        load("housing", tmp_path)


def test_packed_file_is_not_taken_for_another(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "mnist")
    paths = files.write_idx(tmp_path)
    path = paths["train-labels-idx1-ubyte"]
    path.write_bytes(gzip.compress(files.idx(files.images(6, (28, 28)))))

    with pytest.raises(ValueError, match=r"y_train must be integers of shape \(6,\)"):
        load("mnist", tmp_path)
