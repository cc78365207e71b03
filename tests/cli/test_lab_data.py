"""``batchnorm lab data``: what it lists, checks and fetches."""

from pathlib import Path

import pytest

from batchnorm.cli import main
from batchnorm.lab import data
from tests.lab.small import write_mnist


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHNORM_DATA", raising=False)
    monkeypatch.setenv("BATCHNORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    data.load.cache_clear()


def test_all_datasets_with_place_and_licence(tmp_path: Path, capsys):
    write_mnist(tmp_path)

    assert main(["lab", "data", "--data", str(tmp_path)]) == 0

    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "scikit-learn" in lines["digits"]
    assert "BSD-3-Clause" in lines["digits"]
    assert "mnist.npz" in lines["mnist"]
    assert "not there" in lines["spoken_digits"]
    assert "CC BY-SA 4.0" in lines["spoken_digits"]
    assert lines["svhn:"].startswith("svhn: svhn.npz, or train_32x32.mat and test_32x32.mat in a")
    assert lines["svhn:"].endswith("from http://ufldl.stanford.edu/housenumbers, or --download")
    assert "mnist:" not in lines


def test_table_fits_a_terminal(capsys):
    main(["lab", "data"])

    table = capsys.readouterr().out.split("mnist:")[0].splitlines()
    assert len(table) == len(data.CATALOGUE) + 1
    assert max(map(len, table)) <= 80


def test_named_ones_are_read(tmp_path: Path, monkeypatch, capsys):
    write_mnist(tmp_path)
    monkeypatch.setenv("BATCHNORM_DATA", str(tmp_path))

    assert main(["lab", "data", "mnist", "wine"]) == 0

    shown = capsys.readouterr().out
    assert "mnist is whole: 130 and 40 examples of 1×28×28.\n28×28 grey levels" in shown
    assert "wine is whole: 134 and 44 examples of 13.\nRaw features" in shown
    assert "usps" not in shown


def test_broken_and_missing_ones_are_said(tmp_path: Path, capsys):
    path = write_mnist(tmp_path)
    path.write_bytes(path.read_bytes()[:500])

    assert main(["lab", "data", "mnist", "usps", "--data", str(tmp_path)]) == 1

    errors = capsys.readouterr().err
    assert f"batchnorm lab data: '{path}': the file must be a whole .npz archive" in errors
    assert "batchnorm lab data: usps: its files must lie in a folder" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grapes"], "the dataset must be known. Got 'grapes'"),
        (["--data", "nowhere"], "--data: the data folder must exist. Got nowhere"),
    ],
)
def test_what_cannot_be_listed_is_said(arguments: list[str], message: str, capsys):
    assert main(["lab", "data", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_only_what_is_missing_is_downloaded(tmp_path: Path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(data, "download", asked.append)
    write_mnist(tmp_path)

    assert main(["lab", "data", "--data", str(tmp_path), "--download"]) == 0

    assert asked == ["mnist_m", "usps", "fashion_mnist", "svhn", "cifar10"]


def test_a_download_that_fails_does_not_stop_the_next(monkeypatch, capsys):
    def fail(name: str) -> None:
        raise ConnectionError(f"{name}: out of reach.")

    monkeypatch.setattr(data, "download", fail)

    assert main(["lab", "data", "mnist", "usps", "spoken_digits", "--download"]) == 1

    errors = capsys.readouterr().err
    for name in ("mnist", "usps", "spoken_digits"):
        assert f"batchnorm lab data: {name}: out of reach." in errors
