"""A finished trial is found again by its configuration and code, and by nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm.lab import store as store_module
from batchnorm.lab.store import TrialStore, code_version
from batchnorm.lab.training import train
from tests.lab.small import random_data, trial


def test_saved_trial_is_loaded_back(tmp_path: Path):
    store = TrialStore(tmp_path / "new" / "trials", "code")
    result = train(trial(), random_data())

    store.save(trial(), result)

    assert store.load(trial()) == result.__dict__


def test_other_configuration_or_code_is_another_trial(tmp_path: Path):
    store = TrialStore(tmp_path, "code")
    store.save(trial(), trial())

    assert store.load(trial()) is not None
    assert store.load(trial(lr=0.2)) is None
    assert store.load(trial(arm="torch")) is None
    assert TrialStore(tmp_path, "other").load(trial()) is None


@pytest.mark.parametrize("content", ["", '{"result": ', "[]", '{"result": 3}', "{}"])
def test_broken_file_counts_as_missing(tmp_path: Path, content: str):
    store = TrialStore(tmp_path, "code")
    store.path(trial()).write_text(content)

    assert store.load(trial()) is None


def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    store = TrialStore(tmp_path, "code")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        store.save(trial(), trial())

    assert list(tmp_path.iterdir()) == []


def test_file_says_what_it_is(tmp_path: Path):
    store = TrialStore(tmp_path, "code")
    store.save(trial(seed=7), trial())

    stored = json.loads(store.path(trial(seed=7)).read_text())

    assert stored["config"]["seed"] == 7
    assert stored["code"] == "code"


def test_code_version_covers_what_can_change_a_number(monkeypatch):
    names = {path.relative_to(store_module.PACKAGE).as_posix() for path in store_module._sources()}

    covered = {"lab/training.py", "lab/models/_sigmoid.py", "lab/data/_load.py", "functional.py"}
    assert covered <= names
    assert not any(name.startswith(("cli/", "lab/renderers/")) for name in names)
    before = code_version()
    assert before == code_version()
    monkeypatch.setattr(store_module.torch, "__version__", "0.0")
    assert code_version() != before


def test_sweep_removes_what_killed_writers_have_begun(tmp_path: Path):
    writer = subprocess.Popen([sys.executable, "-c", ""])
    writer.wait()
    dead = tmp_path / f"one.part{writer.pid}"
    alive, other = tmp_path / f"two.part{os.getpid()}", tmp_path / "three.json"
    for path in (dead, alive, other):
        path.touch()

    TrialStore(tmp_path, "code").sweep()

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, other.name])
