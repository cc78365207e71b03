"""Rows on disk: nothing finished is lost, nothing incomparable is mixed."""

import json

import pytest

from benchmarks.results import read_results
from benchmarks.store import Store, load

from .made_up import HEADER, ops_row


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "ops.json"


def test_every_row_is_on_disk_when_the_run_is_cut_short(path):
    store = Store(path, HEADER)
    store.add(ops_row((1, 2)))
    store.add(ops_row((3, 4)))
    content = load(path)
    assert [row["shape"] for row in content["rows"]] == [[1, 2], [3, 4]]
    assert content["complete"] is False
    assert not list(path.parent.glob("*.tmp"))


def test_finished_part_is_complete_and_read_back(path):
    store = Store(path, HEADER)
    store.add(ops_row())
    store.finish(complete=True)
    found = read_results(path.parent)
    assert found.rows == {"ops": [ops_row()]}
    assert found.headers == {"ops": json.loads(json.dumps(HEADER))}
    assert found.complete == {"ops": True}


def test_resume_keeps_good_rows_but_not_failed_wrong_or_noisy_ones(path):
    store = Store(path, HEADER)
    store.add(ops_row((1, 2)))
    store.add(ops_row((3, 4), status="failed", reason="no"))
    store.add(ops_row((5, 6), status="wrong", reason="no"))
    store.add(ops_row((7, 8), noisy=True))
    again = Store(path, {**HEADER, "date": "later"}, resume=True)
    assert again.has(ops_row((1, 2))["key"])
    assert not any(again.has(ops_row(shape)["key"]) for shape in ((3, 4), (5, 6), (7, 8)))


@pytest.mark.parametrize(("name", "value"), [("commit", "def"), ("threads", 1), ("cpu", "other")])
def test_resume_takes_no_rows_of_another_commit_or_machine(path, name, value):
    Store(path, HEADER).add(ops_row())
    again = Store(path, {**HEADER, name: value}, resume=True)
    assert again.rows == []
    assert again.differences == [name]


def test_without_resume_the_run_starts_anew(path):
    Store(path, HEADER).add(ops_row((1, 2)))
    fresh = Store(path, HEADER)
    fresh.add(ops_row((3, 4)))
    assert [row["shape"] for row in load(path)["rows"]] == [[3, 4]]
