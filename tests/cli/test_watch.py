"""``batchnorm watch report``: files in, one file out, errors that name the cure."""

import json
from pathlib import Path

import pytest
import torch

import batchnorm as bn
from batchnorm.cli import main
from batchnorm.lab.renderers import watch
from tests.lab.pages import Page
from tests.lab.recordings import recording


def write(path, found):
    rows = [found.run, *found.layers, *found.scalars, *found.alerts]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a recording."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run.jsonl", recording(steps=2, depth=1))
    return tmp_path


@pytest.fixture
def given(monkeypatch):
    """What the renderer was given instead of drawing it."""
    found = []

    def note(recordings, path, title=None):
        found.append(([name for name, _ in recordings], title))
        path.write_text("page")

    monkeypatch.setattr(watch, "write_html", note)
    return found


def test_a_report_is_written_beside_the_recording(folder, capsys):
    assert main(["watch", "report", "run.jsonl"]) == 0

    page = (folder / "run.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<h1>with batch norm</h1>" in page
    assert capsys.readouterr().out == "Open run.html\n"


def test_several_recordings_make_one_report(folder, given):
    write(folder / "plain.jsonl", recording(norm=False, steps=2, depth=1))

    command = ["watch", "report", "run.jsonl", "plain.jsonl", "--out", "new/both.html"]
    assert main([*command, "--title", "Both"]) == 0

    assert given == [(["run.jsonl", "plain.jsonl"], "Both")]
    assert (folder / "new" / "both.html").read_text() == "page"


def test_what_watch_wrote_is_shown(folder):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with bn.watch(model, optimizer=optimizer, every=1, to="own.parquet", name="own") as watching:
        for _ in range(3):
            loss = (model(torch.randn(16, 3)) * torch.randn(16, 4)).sum()
            optimizer.zero_grad()
            loss.backward()
            watching.log(loss=loss)
            optimizer.step()

    assert main(["watch", "report", "own.parquet"]) == 0

    page = Page((folder / "own.html").read_text())
    charts = {attrs["id"] for attrs, _ in page.all("div") if attrs.get("role") == "img"}
    assert {"chart-ridge-run1", "chart-in_std-run1", "chart-grad_norm-run1"} <= charts
    assert "loss" in [text for _, text in page.all("h3")]
    assert {"0", "1", "2"} <= {text for attrs, text in page.all("th") if attrs["scope"] == "row"}


def test_a_file_that_is_there_is_kept_without_force(folder, given, capsys):
    (folder / "run.html").write_text("mine")

    assert main(["watch", "report", "run.jsonl"]) == 1
    assert (folder / "run.html").read_text() == "mine"
    assert "pass --force" in capsys.readouterr().err
    assert main(["watch", "report", "run.jsonl", "--force"]) == 0
    assert (folder / "run.html").read_text() == "page"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.parquet"], "a recording is a file. Got 'none.parquet'."),
        (["run.jsonl", "--out", "./run.jsonl", "--force"], "does not replace a recording"),
        (["other.jsonl"], "the first row is the run's. Got other.jsonl."),
        (["picture.png"], "a recording is JSON lines or .parquet. Got 'picture.png'."),
        (["early.jsonl"], "there must be rows of layers. Got early.jsonl."),
    ],
)
def test_what_cannot_be_shown_is_said(folder, arguments, said, capsys):
    before = (folder / "run.jsonl").read_bytes()
    (folder / "other.jsonl").write_text('{"loss": 1.0}\n')
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "early.jsonl").write_text(json.dumps(recording().run) + "\n")

    assert main(["watch", "report", *arguments]) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm watch report: ")
    assert said in error
    assert (folder / "run.jsonl").read_bytes() == before
    assert not list(folder.glob("*.html"))


def test_nothing_is_left_when_drawing_fails(folder, monkeypatch, capsys):
    def fail(recordings, path, title=None):
        path.write_text("half")
        raise ValueError("watch report: no. Got that. Stop.")

    monkeypatch.setattr(watch, "write_html", fail)

    assert main(["watch", "report", "run.jsonl"]) == 1
    assert [path.name for path in folder.iterdir()] == ["run.jsonl"]


def test_the_command_is_in_the_documents():
    docs = Path(__file__).parents[2] / "docs"

    assert "`batchnorm watch report`" in (docs / "command_line.md").read_text("utf-8")


@pytest.mark.parametrize("arguments", [["report"], ["repart"], ["report", "a", "--loud"]])
def test_unreadable_command_line_exits_with_2(arguments, capsys):
    assert main(["watch", *arguments]) == 2


def test_missing_extra_is_named(monkeypatch, capsys):
    from batchnorm.cli import _extras

    known = _extras.find_spec
    monkeypatch.setattr(
        _extras, "find_spec", lambda name: None if name == "altair" else known(name)
    )

    assert main(["watch", "report", "run.jsonl"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("batchnorm watch report needs the extra 'lab'. Got no altair.")
