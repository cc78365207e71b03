"""docs/command_line.md: its commands run and print what it shows."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from batchnorm.cli import _app, main

PAGE = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """The page's module in the current folder, with weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("nets.py").write_text(blocks("python")[0])
    import nets

    torch.save(nets.net().state_dict(), "net.pt")
    yield nets
    del sys.modules["nets"]


def test_the_commands_of_the_page_run(nets, capsys):
    pytest.importorskip("onnxscript", reason="needs the dev extra")
    pytest.importorskip("altair", reason="needs the lab extra")
    for line in blocks("console")[0].splitlines():
        assert main(shlex.split(line.removeprefix("$ batchnorm "))) == 0

    assert blocks("text")[0].strip() in capsys.readouterr().out
    assert {"right.safetensors", "gap.html", "folded.onnx"} <= {p.name for p in Path().iterdir()}


def test_every_command_is_on_the_page():
    for command in [c for group in _app._COMMANDS.values() for c in group]:
        assert f"`{command.__name__.replace('_', '-')}`" in PAGE.replace("`batchnorm ", "`")
