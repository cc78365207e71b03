"""Good files load as promised; every kind of bad file is refused with its name and a cure."""

from pathlib import Path

import numpy as np
import pytest
import torch

from batchnorm.lab.data import data_folder, load
from tests.lab.small import mnist_arrays, write_mnist


@pytest.fixture(autouse=True)
def nothing_cached():
    load.cache_clear()


def test_digits_need_no_file():
    data = load("digits")

    assert data.x_train.shape == (1200, 1, 8, 8)
    assert data.x_test.shape == (597, 1, 8, 8)
    assert data.x_train.dtype == torch.float32
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert sorted(set(data.y_train.tolist())) == list(range(10))


def test_mnist_is_made_binary_at_half(tmp_path: Path):
    x = mnist_arrays()["x_train"]
    x[0].flat[:4] = (0, 127, 128, 255)
    write_mnist(tmp_path, x_train=x)

    data = load("mnist", tmp_path, flat=True, binary=True)

    assert data.x_train.shape == (130, 784)
    assert data.x_train[0, :4].tolist() == [0, 0, 1, 1]
    assert sorted(data.x_test.unique().tolist()) == [0, 1]


def test_digest_follows_the_content(tmp_path: Path):
    write_mnist(tmp_path)
    first = load("mnist", tmp_path).digest
    load.cache_clear()
    y = mnist_arrays()["y_test"]
    y[0] = (y[0] + 1) % 10
    write_mnist(tmp_path, y_test=y)

    assert load("mnist", tmp_path).digest != first


def test_constant_prediction_is_the_entropy_of_the_labels(tmp_path: Path):
    y = np.repeat(np.array([1, 4], dtype=np.uint8), [100, 30])
    test_y = np.array([1] * 10 + [2] * 30, dtype=np.uint8)
    write_mnist(tmp_path, y_train=y, y_test=test_y)

    data = load("mnist", tmp_path)

    p = np.array([100, 30]) / 130
    assert data.constant_loss == pytest.approx(float(-(p * np.log(p)).sum()))
    assert data.constant_accuracy == 0.25


X, Y = mnist_arrays()["x_train"], mnist_arrays()["y_train"]


@pytest.mark.parametrize(
    ("changes", "rule", "got"),
    [
        ({"x_train": None}, "the archive must hold x_train", "['x_test', 'y_test', 'y_train']"),
        ({"x_train": X.reshape(130, 784)}, "x_train must be uint8", "uint8 (130, 784)"),
        ({"x_train": X[:, :20, :20]}, "of shape (n, 28, 28)", "uint8 (130, 20, 20)"),
        ({"x_train": X.astype(np.float32)}, "x_train must be uint8", "float32 (130, 28, 28)"),
        ({"x_test": X[:0]}, "x_test must be uint8", "uint8 (0, 28, 28)"),
        ({"y_train": Y[:-1]}, "integers of shape (130,), one per example", "uint8 (129,)"),
        ({"y_train": Y.astype(np.float64)}, "y_train must be integers", "float64 (130,)"),
        ({"y_train": Y + 1}, "y_train must be classes 0 to 9", "1 to 10"),
    ],
)
def test_wrong_content_is_refused(tmp_path: Path, changes: dict, rule: str, got: str):
    path = write_mnist(tmp_path, **changes)

    with pytest.raises(ValueError) as caught:
        load("mnist", tmp_path)

    message = str(caught.value)
    assert message.startswith(f"'{path}': ")
    assert rule in message
    assert f"Got {got}." in message
    assert "Put the whole file there" in message


def test_images_on_one_side_of_half_are_not_made_binary(tmp_path: Path):
    write_mnist(tmp_path, x_train=X // 128)

    with pytest.raises(ValueError, match=r"both sides of half\. Got one side only"):
        load("mnist", tmp_path, binary=True)


@pytest.mark.parametrize("keep", [0, 10, 3000, -20])
def test_truncated_file_is_refused(tmp_path: Path, keep: int):
    path = write_mnist(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ValueError, match=r"must be a whole \.npz archive\. Got \d+ bytes"):
        load("mnist", tmp_path)


def test_damaged_middle_is_refused(tmp_path: Path):
    path = write_mnist(tmp_path)
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(content)

    with pytest.raises(ValueError, match="must be a whole"):
        load("mnist", tmp_path)


def test_pickled_arrays_are_refused(tmp_path: Path):
    write_mnist(tmp_path, x_train=np.array([object()]))

    with pytest.raises(ValueError, match="must be a whole"):
        load("mnist", tmp_path)


def test_missing_file_is_refused_with_what_would_do(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist", tmp_path)

    message = str(caught.value)
    assert message.startswith("mnist: its files must lie in a folder that you name: mnist.npz, or")
    assert f"Got '{tmp_path}' without them. Put them there, from http" in message


def test_mnist_without_a_folder_names_the_option():
    with pytest.raises(ValueError, match="Got no folder. Use --data FOLDER or set BATCHNORM_DATA"):
        load("mnist")


def test_unknown_dataset_is_refused():
    with pytest.raises(ValueError, match="'letters'.*digits.*mnist"):
        load("letters")


def test_folder_comes_from_the_option_before_the_variable(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BATCHNORM_DATA", str(tmp_path))
    (tmp_path / "option").mkdir()

    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "option") == tmp_path / "option"
    monkeypatch.delenv("BATCHNORM_DATA")
    assert data_folder() is None


def test_folder_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match="--data: the data folder must exist"):
        data_folder(tmp_path / "none")
    monkeypatch.setenv("BATCHNORM_DATA", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="BATCHNORM_DATA: the data folder must exist"):
        data_folder()
