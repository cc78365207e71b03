"""The command on a made-up part: what it keeps, skips, counts and writes."""

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.store import load

from .made_up import ops_row


class Part:
    """Three rows; the one named ``broken`` is wrong, ``interrupt`` stops the run before a row."""

    NAME = "ops"
    __doc__ = "Made up."

    def __init__(self):
        self.made: list[str] = []
        self.interrupt = ""

    def rows(self, context):
        shapes = {"1x2": (1, 2), "3x4": (3, 4), "5x6": (5, 6)}
        return [
            (f"{name} row", lambda name=name, s=s: self._make(name, s))
            for name, s in shapes.items()
        ]

    def _make(self, name, shape):
        if name == self.interrupt:
            raise KeyboardInterrupt
        self.made.append(name)
        return {**ops_row(shape), "key": f"{name} row"}


@pytest.fixture
def part(monkeypatch, tmp_path):
    part = Part()
    monkeypatch.setattr(command, "PARTS", {"ops": part})
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(command, "_write", lambda run, results: part.made.append("written"))
    threads = torch.get_num_threads()
    yield part
    torch.set_num_threads(threads)


def test_full_run_measures_all_and_writes_the_documents(part, tmp_path):
    assert command.main([]) == 0
    assert part.made == ["1x2", "3x4", "5x6", "written"]
    assert load(tmp_path / "results" / "ops.json")["complete"] is True


@pytest.mark.parametrize("options", [["--quick"], ["--filter", "3x4"]])
def test_partial_runs_leave_results_and_documents_alone(part, tmp_path, options):
    assert command.main(options) == 0
    assert "written" not in part.made
    assert not (tmp_path / "results").exists()
    assert (tmp_path / "scratch" / "ops.json").exists()


def test_filter_wants_every_word(part, tmp_path):
    command.main(["--filter", "ops 3x4"])
    command.main(["--filter", "1x2 3x4"])
    assert part.made == ["3x4"]
    assert load(tmp_path / "scratch" / "ops.json")["complete"] is False


def test_interrupted_run_keeps_its_rows_and_resume_makes_the_others(part, tmp_path, capsys):
    part.interrupt = "5x6"
    assert command.main([]) == 130
    assert "--resume" in capsys.readouterr().out
    assert len(load(tmp_path / "results" / "ops.json")["rows"]) == 2

    part.interrupt, part.made = "", []
    assert command.main(["--resume"]) == 0
    assert part.made == ["5x6", "written"]
    assert len(load(tmp_path / "results" / "ops.json")["rows"]) == 3


def test_wrong_row_makes_the_command_fail(part, monkeypatch):
    wrong = {**ops_row(status="wrong", reason="output: error 1"), "key": "bad"}
    monkeypatch.setattr(part, "rows", lambda context: [("bad", lambda: wrong)])
    assert command.main([]) == 1


def test_render_measures_nothing(part):
    assert command.main(["--render"]) == 0
    assert part.made == ["written"]
