"""Checkpoints: what is read, what is refused, what is written, and that it is whole."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model

from batchnorm.cli._atomic import replacing
from batchnorm.cli._checkpoint import load_into, read, write

from . import models
from .commands import MODULE, call, name, trained

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-c", "import sys; from batchnorm.cli import main; sys.exit(main())"]
WHO = "batchnorm fold"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


STATE = {"a": torch.tensor([1.0, 2.0])}
HELD = {
    "plain": STATE,
    "nested": {"state_dict": STATE, "epoch": 3},
    "model": {"model": STATE, "optimizer": {"lr": 0.1}},
    "parallel": {"module.a": STATE["a"]},
    "compiled": {"model": {"_orig_mod.module.a": STATE["a"]}},
    "averaged": {"n_averaged": torch.tensor(3), "module.a": STATE["a"]},
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_weights_are_found_where_training_scripts_put_them(held):
    torch.save(held, "x.pt")

    assert torch.equal(read(WHO, Path("x.pt")).state["a"], STATE["a"])


def test_a_key_chooses_among_weights():
    torch.save({"model": STATE, "ema": {"a": STATE["a"] + 1}}, "x.pt")

    assert torch.equal(read(WHO, Path("x.pt"), "ema").state["a"], STATE["a"] + 1)
    with pytest.raises(ValueError, match="must hold a state dict under 'swa'. Got 'x.pt' with mod"):
        read(WHO, Path("x.pt"), "swa")


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys):
    torch.save({"state_dict": STATE, "extra": Evil()}, "x.pt")

    assert call("fold", checkpoint="x.pt") == 1

    error = capsys.readouterr().err
    assert "tensors and plain values only, for others can run code" in error
    assert "weights_only=False" not in error
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_half_a_file_is_refused(suffix, capsys):
    path = Path(f"x{suffix}")
    write(WHO, path, trained().state_dict(), {})
    for keep in (0, 5, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:keep])

        assert call("fold", checkpoint=path) == 1
        assert "must be a whole" in capsys.readouterr().err


def test_other_files_are_refused(capsys):
    assert call("fold", checkpoint="none.pt") == 1
    assert "the checkpoint must be a file. Got 'none.pt'" in capsys.readouterr().err
    assert call("fold", checkpoint="x.h5") == 1
    assert "ends in its format. Got 'x.h5'" in capsys.readouterr().err
    torch.save([1, 2], "x.pt")
    assert call("fold", checkpoint="x.pt") == 1
    assert "must hold a state dict. Got 'x.pt' with a list" in capsys.readouterr().err


def test_weights_of_another_model_are_refused_by_name(capsys):
    save_file(models.plain().state_dict(), "x.safetensors")
    assert call("fold", checkpoint="x.safetensors") == 1
    error = capsys.readouterr().err
    assert "without 1.weight, 1.bias, 1.running_mean and" in error
    assert "with 0.bias" in error

    state = models.small().state_dict()
    del state["6.weight"]
    save_file(state, "x.safetensors")
    assert call("fold", checkpoint="x.safetensors") == 1
    assert "Got 'x.safetensors' without 6.weight. Use" in capsys.readouterr().err

    save_file({**models.small().state_dict(), "7.weight": torch.ones(1)}, "x.safetensors")
    assert call("fold", checkpoint="x.safetensors") == 1
    assert "Got 'x.safetensors' with 7.weight. Use" in capsys.readouterr().err

    state = models.small().state_dict()
    state["6.bias"] = torch.zeros(7)
    save_file(state, "x.safetensors")
    assert call("fold", checkpoint="x.safetensors") == 1
    assert "size mismatch for 6.bias" in capsys.readouterr().err


def test_tied_weights_load_from_a_file_that_holds_them_once():
    model = trained(models.tied)
    save_model(model, "x.safetensors")
    other = models.tied()

    load_into(WHO, other, read(WHO, Path("x.safetensors")).state, "it")

    assert len(load_file("x.safetensors")) < len(model.state_dict())
    assert torch.equal(other[2].weight, model[0].weight)
    assert other[2].weight is other[0].weight


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_is_written_loads_strictly(suffix):
    model, path = trained(models.tied), Path(f"new/folder/x{suffix}")
    model[0].weight.data = model[0].weight.data.t()
    write(WHO, path, model.state_dict(), {"word": "kept"})

    other = models.tied()
    other.load_state_dict(read(WHO, path).state)

    assert torch.equal(other[0].weight, model[0].weight)
    assert read(WHO, path).metadata.get("word") == ("kept" if suffix == ".safetensors" else None)
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_only_tensors_go_into_a_safetensors_file(capsys):
    with pytest.raises(ValueError, match="holds tensors only. Got more._extra_state. Name a file"):
        write(WHO, Path("x.safetensors"), {"more._extra_state": {"a": 1}}, {})
    assert call("recalibrate", model="stateful", loader=name("failing"), out="y.safetensors") == 1
    assert "holds tensors only. Got _extra_state. Name" in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("path", ["x.safetensors", "y.pt"])
def test_files_that_are_there_are_kept_without_force(path, capsys):
    save_file(trained().state_dict(), "x.safetensors")
    Path("y.pt").write_bytes(b"mine")
    before = Path(path).read_bytes()

    assert call("fold", checkpoint="x.safetensors", out=path) == 1
    assert f"files that are there are kept. Got '{path}'" in capsys.readouterr().err
    assert Path(path).read_bytes() == before

    assert call("fold", "--force", checkpoint="x.safetensors", out=path) == 0
    assert Path(path).read_bytes() != before
    assert sorted(os.listdir()) == ["x.safetensors", "y.pt"]


def test_a_link_to_the_input_is_the_input():
    save_file(trained().state_dict(), "x.safetensors")
    Path("y.safetensors").symlink_to("x.safetensors")
    before = Path("x.safetensors").read_bytes()

    assert call("fold", checkpoint="x.safetensors", out="y.safetensors") == 1
    assert Path("x.safetensors").read_bytes() == before
    assert call("fold", "--force", checkpoint="x.safetensors", out="y.safetensors") == 0
    assert Path("y.safetensors").is_symlink()


def test_results_need_files_of_their_own(capsys):
    assert call("fold", out="y.pt", report="./y.pt") == 1
    assert "each result needs a file of its own" in capsys.readouterr().err
    assert call("fold", out=".") == 1
    assert "a result is a file. Got the folder '.'" in capsys.readouterr().err
    assert call("fold", out="y.h5") == 1
    assert "ends in its format" in capsys.readouterr().err


def test_a_failed_write_leaves_what_was_there(monkeypatch):
    Path("y.pt").write_bytes(b"mine")

    def fail(*args):
        Path(args[1]).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    assert call("fold", "--force", out="y.pt") == 1

    assert Path("y.pt").read_bytes() == b"mine"
    assert os.listdir() == ["y.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_kill_in_the_middle_of_a_write_leaves_what_was_there(tmp_path):
    Path("y.pt").write_bytes(b"mine")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from batchnorm.cli._atomic import replacing\n"
        "with replacing(Path('y.pt')) as part:\n"
        "    part.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert Path("y.pt").read_bytes() == b"mine"

    with replacing(Path("y.pt")) as part:
        part.write_bytes(b"whole")
    assert Path("y.pt").read_bytes() == b"whole"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_no_file_and_exits_with_130(tmp_path):
    given = ["--loader", name("slow"), "--out", "y.safetensors", "--report", "r.json"]
    command = [*RUN, "recalibrate", "--model", f"{MODULE}:small", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)

    assert process.returncode == 130
    assert error == "Stopped.\n"
    assert not os.listdir()
