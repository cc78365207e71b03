"""Every test reads anew, with a cache of its own."""

import pytest

from batchnorm.lab.data import load


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BATCHNORM_CACHE", str(folder))
    load.cache_clear()

    return folder
