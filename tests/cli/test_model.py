"""Names on the command line: what is found, and what is said when it is not."""

import sys

import pytest
import torch

from batchnorm.cli import main
from batchnorm.cli._model import make_sample

from . import models
from .commands import MODULE, call, name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\n"
        "class Nets:\n"
        "    @staticmethod\n"
        "    def make():\n"
        "        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))\n"
    )

    assert main(["fold", "--model", "nets_of_mine:Nets.make"]) == 0
    assert "folded into 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models", "--model is pkg.mod:name. Got 'models'"),
        ("a b:c", "--model is pkg.mod:name"),
        ("__import__('os'):name", "--model is pkg.mod:name"),
        ("no_such_module:make", "must name a module that can be imported. Got 'no_such_module'"),
        (f"{MODULE}.deeper:make", f"Got '{MODULE}.deeper'"),
        (f"{MODULE}:nothing", "must name something in the module"),
        (f"{MODULE}:SHAPE", "--model must name a function. Got a tuple"),
        (f"{MODULE}:instance", "--model must name a function. Got a Sequential"),
        (f"{MODULE}:no_model", "--model must return a torch.nn.Module. Got a int"),
    ],
)
def test_a_wrong_name_is_explained(text, message, capsys):
    assert main(["fold", "--model", text]) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm fold: ")
    assert message in error
    assert "Traceback" not in error


def test_an_error_in_the_user_s_function_says_where(capsys):
    assert call("fold", model="broken") == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm fold: KeyError at ")
    assert "models.py:" in error


def test_a_module_that_cannot_import_another_names_the_other(tmp_path, capsys):
    (tmp_path / "needs_more.py").write_text("import not_installed_here\n")

    assert main(["fold", "--model", "needs_more:make"]) == 1
    assert "No module named 'not_installed_here'" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_shape_makes_the_sample_that_its_code_makes(dtype):
    sample = make_sample("batchnorm fold", "2, 3,8,8", models.small().to(dtype))

    assert sample.value.shape == (2, 3, 8, 8)
    assert sample.value.dtype == dtype
    assert torch.equal(eval(sample.code), sample.value)


@pytest.mark.parametrize("text", ["2x3", "", "2,-3"])
def test_a_sample_is_a_shape_or_a_name(text, capsys):
    assert call("fold", sample=text) == 1
    assert "--sample is a shape or pkg.mod:function" in capsys.readouterr().err


def test_a_loader_must_be_iterable(capsys):
    assert call("recalibrate", loader=name("no_model")) == 1
    assert "--loader must return something to iterate. Got a int" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["meta:x", "toaster"])
def test_a_device_that_is_not_there_is_named(device, capsys):
    assert call("fold", device=device) == 1
    assert f"the device must be there. Got '{device}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["fold"], ["recalibrate", "--model", "a:b"], ["adapt", "--method", "x"]]
)
def test_an_incomplete_command_line_exits_with_2(arguments):
    assert main(arguments) == 2


@pytest.mark.parametrize(
    "command",
    ["convert", "insert", "fold", "freeze", "recalibrate", "adapt", "gap", "prune-report"],
)
def test_help_explains_every_option(command, capsys):
    assert main([command, "--help"]) == 0

    shown = capsys.readouterr().out
    options = [line for line in shown.splitlines() if line.startswith(("│    --", "│ *  --"))]
    assert len(options) > 5
    assert all(len(line.strip("│ *").split("  ", 1)) == 2 for line in options)
