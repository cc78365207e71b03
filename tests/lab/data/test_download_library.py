"""The library that downloads, on a repository that lies on this disk."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from batchnorm.lab.data import CATALOGUE, download, load
from tests.lab.data import files


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parquet_files_of_a_repository(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    pytest.importorskip("datasets", reason="needs the extra 'download'")
    monkeypatch.chdir(tmp_path)  # a folder with a repository's name comes before the Hub
    folder = tmp_path / "ylecun" / "mnist" / "mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 6), ("test", 3), ("extra", 2)):
        pictures = files.cells(files.images(count, (28, 28)))
        table = pl.DataFrame({"image": pictures, "label": files.labels(count).tolist()})
        table.write_parquet(folder / f"{part}-00000-of-00001.parquet")
    entry = CATALOGUE["mnist"]
    tiny = replace(entry, sizes=(6, 3), hub=replace(entry.hub, sha256=""))
    monkeypatch.setitem(CATALOGUE, "mnist", tiny)

    download("mnist")

    data = load("mnist")
    assert torch.equal(
        (data.x_train[:, 0] * 255).byte(), torch.from_numpy(files.images(6, (28, 28)))
    )
    assert data.y_test.tolist() == files.labels(3).tolist()
