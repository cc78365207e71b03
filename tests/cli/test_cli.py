"""Commands: exit codes, and messages that name the cure."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import batchnorm
from batchnorm.cli import _extras, bench, demo, main
from batchnorm.lab import data
from tests.lab.small import write_mnist

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-c", "import sys; from batchnorm.cli import main; sys.exit(main())"]
TINY = ["--seeds", "1", "--steps", "4", "--jobs", "1"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHNORM_DATA", raising=False)
    data.load.cache_clear()


@pytest.mark.parametrize("command", [[], ["demo"], ["info"], ["bench"]])
def test_help(command: list[str], capsys):
    assert main([*command, "--help"]) == 0
    assert "Usage: batchnorm" in capsys.readouterr().out


def test_help_explains_every_option(capsys):
    main(["demo", "--help"])

    shown = capsys.readouterr().out
    for option in ("--data", "--seeds", "--steps", "--out", "--jobs", "--no-resume"):
        assert option in shown


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == batchnorm.__version__


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dome"], "demo"),
        (["demo", "--sedes", "3"], "--sedes"),
        (["demo", "--seeds", "many"], "--seeds"),
        (["demo", "--seeds", "0"], "--seeds"),
        (["demo", "--steps", "-5"], "--steps"),
        (["demo", "--jobs", "0"], "--jobs"),
    ],
)
def test_unreadable_command_line_exits_with_2(arguments: list[str], named: str, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert captured.out == ""


def test_info_prints_what_the_package_says(capsys):
    assert main(["info"]) == 0
    assert capsys.readouterr().out == f"{batchnorm.info()}\n"


def test_demo_writes_its_files_and_resumes(tmp_path: Path, capsys):
    assert main(["demo", *TINY, "--out", "here"]) == 0
    first = capsys.readouterr().out
    assert main(["demo", *TINY, "--out", "here"]) == 0
    second = capsys.readouterr().out

    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names == {"report.html", "figure1.png", "result.json", "trials"}
    assert "19 trials (0 kept from earlier)" in first
    assert "19 trials (19 kept from earlier)" in second
    assert "Open here/report.html" in first
    assert "Test accuracy over steps" in first


@pytest.fixture
def only_titles(monkeypatch):
    """Show the dataset instead of drawing charts."""
    monkeypatch.setattr(demo, "_render", lambda result, *_: print(result.dataset.title))


@pytest.mark.usefixtures("only_titles")
def test_demo_takes_mnist_from_the_folder(tmp_path: Path, capsys):
    write_mnist(tmp_path)

    assert main(["demo", *TINY, "--data", str(tmp_path), "--out", "here"]) == 0
    assert capsys.readouterr().out.strip() == "MNIST"


def test_demo_refuses_a_folder_without_the_file(tmp_path: Path, capsys):
    assert main(["demo", *TINY, "--data", str(tmp_path)]) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm demo: mnist: its files must lie in a folder")
    assert f"Got '{tmp_path}' without them" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_demo_refuses_a_truncated_file(tmp_path: Path, capsys):
    path = write_mnist(tmp_path)
    path.write_bytes(path.read_bytes()[:500])

    assert main(["demo", *TINY, "--data", str(tmp_path)]) == 1
    assert "500 bytes" in capsys.readouterr().err


def test_demo_says_that_a_worker_died(monkeypatch, capsys):
    def die(*_: object) -> None:
        raise RuntimeError("lab: worker processes must live to the end.")

    monkeypatch.setattr(demo, "_run", die)

    assert main(["demo", *TINY]) == 1
    assert capsys.readouterr().err.startswith("batchnorm demo: lab: worker processes must live")


@pytest.mark.usefixtures("only_titles")
def test_variable_that_names_other_data_falls_back_out_loud(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BATCHNORM_DATA", str(tmp_path))

    assert main(["demo", *TINY, "--out", "here"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "has no MNIST: the digits are used" in shown
    assert shown.endswith("scikit-learn digits")


@pytest.mark.parametrize(
    ("extra", "package", "arguments"), [("cli", "cyclopts", ["info"]), ("lab", "altair", ["demo"])]
)
def test_missing_extra_is_named(extra: str, package: str, arguments, monkeypatch, capsys):
    found = _extras.find_spec
    monkeypatch.setattr(_extras, "find_spec", lambda name: None if name == package else found(name))

    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"Got no {package}." in error
    assert f"pip install 'batchnorm[{extra}]'" in error


def test_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = [*extras["cli"], *extras["lab"]]
    published = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "vl_convert": "vl-convert-python",
    }
    for packages in _extras.EXTRAS.values():
        for package in packages:
            wanted = published.get(package, package)
            assert any(name.startswith(wanted) for name in names), wanted


def test_bench_runs_the_repository_s_benchmarks(tmp_path: Path, capfd):
    (tmp_path / "csrc").mkdir()
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text(
        "import sys; print('ran', sys.argv[1:]); sys.exit(7)"
    )

    assert main(["bench", "--quick", "rows"]) == 7
    assert "ran ['--quick', 'rows']" in capfd.readouterr().out


def test_bench_says_where_the_benchmarks_are(monkeypatch, capsys):
    monkeypatch.setattr(bench, "repository", lambda: None)

    assert main(["bench"]) == 1
    error = capsys.readouterr().err
    assert "inside a clone of the source repository" in error


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process group")
def test_ctrl_c_keeps_finished_trials_and_exits_with_130(tmp_path: Path):
    command = [*RUN, "demo", "--seeds", "40", "--steps", "400", "--jobs", "2", "--out", "here"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    trials = tmp_path / "here" / "trials"
    deadline = time.monotonic() + 90
    while len(list(trials.glob("*.json"))) < 1 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in error
    assert "Stopped. " in error
    assert list(trials.glob("*.json"))
    assert not list(trials.glob("*.part*"))
