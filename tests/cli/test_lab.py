"""``batchnorm lab``: what it prints and writes, and how it ends."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from batchnorm.cli import _extras, main
from batchnorm.lab import save
from tests.lab.studies import experiment, study

RUN = [sys.executable, "-c", "import sys; from batchnorm.cli import main; sys.exit(main())"]
TINY = ["lab", "run", "bias", "--budget", "smoke", "--seeds", "2", "--jobs", "1"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHNORM_DATA", raising=False)


def test_list_names_every_experiment(capsys):
    assert main(["lab", "list"]) == 0
    assert "bias" in capsys.readouterr().out


def test_run_prints_verdicts_writes_files_and_resumes(capsys):
    assert main([*TINY, "--out", "here"]) == 0
    first = capsys.readouterr().out
    assert main([*TINY, "--out", "here"]) == 0
    second = capsys.readouterr().out

    assert "A bias before batch norm learns nothing" in first
    assert "4 trials (0 kept from earlier)" in first
    assert "4 trials (4 kept from earlier)" in second
    assert len(pl.read_parquet("here/bias/trials.parquet")) == 4
    verdicts = pl.read_parquet("here/bias/verdicts.parquet")["verdict"].to_list()
    assert verdicts[:2] == ["holds", "holds"]
    assert json.loads(Path("here/bias/result.json").read_text())["budget"] == "smoke"
    assert second.endswith("Open here/report.html\n")
    assert "The bias before batch norm" in Path("here/report.html").read_text()


def test_report_shows_what_lies_in_a_folder_and_opens_it(capsys, monkeypatch):
    save([study(), study(experiment("other"))], Path("here"))
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    assert main(["lab", "report", "--out", "here", "--open"]) == 0

    assert capsys.readouterr().out == "Open here/report.html\n"
    assert opened == [Path("here/report.html").resolve().as_uri()]
    assert set(pl.read_parquet("here/results.parquet")["experiment"]) == {"made-up", "other"}
    names = [record["experiment"] for record in json.loads(Path("here/results.json").read_text())]
    assert names == ["made-up", "other"]
    assert {path.suffix for path in Path("here/report").iterdir()} == {".svg", ".png"}


@pytest.mark.parametrize(("file", "message"), [(None, "none in 'here'"), ("{}", "KeyError")])
def test_report_says_what_it_cannot_read(file, message, capsys):
    Path("here/old").mkdir(parents=True)
    if file:
        Path("here/old/result.json").write_text(file)
        pl.DataFrame({"a": [1]}).write_parquet("here/old/trials.parquet")

    assert main(["lab", "report", "--out", "here"]) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm lab report: ")
    assert message in error
    assert not Path("here/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lab", "run", "biass"], 1, "batchnorm lab: the experiment must be known. Got 'biass'"),
        (["lab", "run", "bias", "--data", "nowhere"], 1, "the data folder must exist. Got nowhere"),
        (["lab", "run", "bias", "--budget", "huge"], 2, "huge"),
        (["lab", "run", "bias", "--seeds", "0"], 2, "--seeds"),
    ],
)
def test_what_cannot_run_is_said(arguments, code, message, tmp_path, capsys):
    assert main(arguments) == code

    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out.strip() == ""
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_said_and_the_run_goes_on_later(monkeypatch, capsys):
    write, left = Path.write_text, iter([True, True])

    def full(path, text, **options):
        if not next(left, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert main([*TINY, "--out", "here"]) == 1
    error = capsys.readouterr().err

    assert "No space left on device" in error
    assert "2 finished trials are kept in here/trials; the same command goes on" in error
    assert main([*TINY, "--out", "here"]) == 0
    assert "4 trials (2 kept from earlier)" in capsys.readouterr().out


def test_missing_extra_is_named(monkeypatch, capsys):
    found = _extras.find_spec
    monkeypatch.setattr(_extras, "find_spec", lambda n: None if n == "polars" else found(n))

    for command in (["lab", "list"], TINY, ["lab", "report"]):
        assert main(command) == 1
        assert "needs the extra 'lab'. Got no polars." in capsys.readouterr().err


def test_compare_trains_the_user_s_model(capsys):
    model, data = "tests.lab.test_compare:net", "tests.lab.test_compare:images"
    options = ["--rates", "0.01", "0.1", "--steps", "3", "--seeds", "2", "--jobs", "1"]

    code = main(["lab", "compare", "--model", model, "--data", data, *options, "--out", "here"])

    shown = capsys.readouterr().out
    assert code == 0
    assert "The model is better with group norm than as it is." in shown
    assert "rate 0.01" in shown
    assert "20 trials (0 kept from earlier)" in shown
    assert len(pl.read_parquet("here/compare/trials.parquet")) == 20


def test_compare_crosses_what_it_is_told_and_recommends(capsys):
    model, data = "tests.lab.test_compare:net", "tests.lab.test_compare:images"
    options = ["--norms", "group", "none", "--placements", "given", "after", "--rates", "0.1"]
    options += ["--batch-sizes", "8", "16", "--steps", "2", "--seeds", "1", "--jobs", "1"]

    assert main(["lab", "compare", "--model", model, "--data", data, *options]) == 0

    shown = capsys.readouterr().out
    assert "8 trials (0 kept from earlier)" in shown
    assert "group norm after activations" in shown
    assert "Best: " in shown
    assert "(one seed: no interval)" in shown
    assert "group norm after activations" in Path("out/compare/report.html").read_text()
    assert "Not worse, as far as the seeds tell: " in shown
    assert "rate 0.1, batches of 16: " in shown


@pytest.mark.parametrize("option", ["--norms", "--placements"])
def test_compare_refuses_unknown_names(option, capsys):
    arguments = ["--model", "tests.lab.test_compare:net", "--data", "tests.lab.test_compare:images"]

    assert main(["lab", "compare", *arguments, option, "somewhere"]) == 2

    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere:net", "--model must name a module that can be imported"),
        ("tests.lab.test_compare:broken", "must name something in the module"),
        ("tests.lab.test_compare:mse_loss", "mse_loss() missing"),
    ],
)
def test_compare_says_what_is_wrong_with_the_model(model, message, capsys):
    arguments = ["--model", model, "--data", "tests.lab.test_compare:images"]

    assert main(["lab", "compare", *arguments]) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm lab compare: ")
    assert message in error
    assert "Traceback" not in error


def test_compare_says_its_name_once(capsys):
    named = [f"tests.lab.test_compare:{name}" for name in ("net", "images")]

    command = ["lab", "compare", "--model", named[0], "--data", named[1], "--batch-sizes", "1000"]
    assert main(command) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm lab compare: the data must have a batch of some size. Got ")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process group")
def test_ctrl_c_keeps_finished_trials_and_exits_with_130(tmp_path):
    command = [*RUN, "lab", "run", "bias", "--budget", "default", "--out", "here", "--jobs", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    trials = tmp_path / "here" / "trials"
    deadline = time.monotonic() + 90
    while not list(trials.glob("*.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in error
    assert "finished trials are kept in here/trials; the same command goes on" in error
    assert not list(trials.glob("*.part*"))
