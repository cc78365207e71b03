"""The table of datasets, and what comes with scikit-learn."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

from batchnorm.lab.data import CATALOGUE, is_there, load, overview
from batchnorm.lab.data._digits import CELL
from tests.lab.data import files
from tests.lab.small import write_mnist

EMBEDDED = ("digits", "digits_m", "wine", "breast_cancer", "diabetes")


def test_every_entry_says_where_it_comes_from():
    for name, entry in CATALOGUE.items():
        assert re.fullmatch("[a-z0-9_]+", name)
        assert entry.origin.startswith("http")
        assert entry.licence
        assert f"``{name}``" in load.__doc__
        assert (entry.made is None) == bool(entry.sources)
        for source in entry.sources:
            assert len(source.sha256) in (0, len(source.files))
            assert all(re.fullmatch("[0-9a-f]{64}", known) for known in source.sha256)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_have_the_sizes_of_the_table(name: str):
    data, entry = load(name), CATALOGUE[name]

    assert is_there(name)
    assert (len(data.x_train), len(data.x_test)) == entry.sizes
    assert len(data.y_train) == len(data.x_train)
    assert data.classes == entry.wanted.classes
    if data.classes:
        assert data.y_train.unique().tolist() == list(range(data.classes))
        assert data.y_test.unique().tolist() == list(range(data.classes))


def test_the_others_need_files(tmp_path: Path):
    for name in CATALOGUE.keys() - EMBEDDED:
        assert not is_there(name, tmp_path)
        with pytest.raises(ValueError, match=f"{name}: its files must lie in a folder"):
            load(name)
        with pytest.raises(FileNotFoundError, match=f"Got '{tmp_path}' without them"):
            load(name, tmp_path)


def test_table_parts_are_all_of_it():
    x, _ = datasets.load_wine(return_X_y=True)
    data = load("wine")

    both = torch.cat([data.x_train, data.x_test]).numpy()
    assert {tuple(row) for row in both.tolist()} == {
        tuple(row) for row in x.astype(np.float32).tolist()
    }
    assert len(both) == len(x)


def test_digits_m_is_the_difference_from_a_patch():
    digits, blended = load("digits"), load("digits_m")
    photographs = [
        image[: 8 * CELL * (len(image) // (8 * CELL))] / 255.0
        for image in datasets.load_sample_images().images
    ]
    lowest, highest = min(p.min() for p in photographs), max(p.max() for p in photographs)

    assert torch.equal(blended.y_train, digits.y_train)
    black = digits.x_train.expand(-1, 3, -1, -1) == 0
    white = digits.x_train.expand(-1, 3, -1, -1) == 1
    # Where the digit is black the photograph shows through, where it is white its negative does.
    assert lowest <= blended.x_train[black].min()
    assert blended.x_train[black].max() <= highest
    through, negative = blended.x_train[black].mean(), blended.x_train[white].mean()
    assert through + negative == pytest.approx(1, abs=0.02)


def test_overview_says_where_each_is(tmp_path: Path):
    path = write_mnist(tmp_path)

    frame = overview(tmp_path)

    assert frame["name"].to_list() == list(CATALOGUE)
    where = dict(zip(frame["name"], frame["where"], strict=True))
    assert where["digits"] == "scikit-learn"
    assert where["mnist"] == str(path)
    assert where["svhn"] is None
    cifar = frame.filter(name="cifar10").row(0, named=True)
    assert cifar["files"].startswith("cifar10.npz, or cifar-10-binary.tar.gz, or")
    assert (cifar["train"], cifar["test"], cifar["shape"]) == (50_000, 10_000, "32×32×3")


def test_overview_of_some(tmp_path: Path):
    assert overview(names=["wine", "usps"])["name"].to_list() == ["wine", "usps"]
    with pytest.raises(ValueError, match="'grapes'. Use one of digits, digits_m"):
        overview(names=["grapes"])


def test_page_has_the_table():
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")

    for row in overview().iter_rows(named=True):
        name, sizes = f"| `{row['name']}` | ", f" | {row['train']:,} + {row['test']:,} | "
        (line,) = (line for line in page.splitlines() if line.startswith(name) and sizes in line)
        classes = row["classes"] or "numbers"
        described = f"[{row['title']}]({row['origin']}){sizes}{row['shape']} | {classes} | "
        assert line.startswith(f"{name}{described}{row['licence']} | ")
        hub = CATALOGUE[row["name"]].hub
        assert hub is None or f"[{hub.repository}]" in line


def test_first_source_that_is_there_counts(tmp_path: Path, monkeypatch):
    files.unchecked(monkeypatch, "mnist")
    files.write_idx(tmp_path)
    assert len(load("mnist", tmp_path).x_train) == 6
    load.cache_clear()
    write_mnist(tmp_path)

    assert len(load("mnist", tmp_path).x_train) == 130
