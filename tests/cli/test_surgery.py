"""batchnorm fold, convert, insert, freeze, prune-report: what they write loads as they say."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from batchnorm.cli import _onnx, _recipe

from . import models
from .commands import call, header, name, rebuilt, trained

SHAPE = ",".join(map(str, models.SHAPE))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(make=models.small):
    """A trained model, whose weights lie in x.safetensors, and what it answers."""
    model = trained(make)
    save_file(model.state_dict(), "x.safetensors")
    with torch.no_grad():
        return model, model(models.sample())


def answer(model):
    with torch.no_grad():
        return model(models.sample())


def close(found, expected):
    bound = 1000 * torch.finfo(found.dtype).eps * expected.abs().max()
    return bool((found - expected).abs().max() <= bound)


@pytest.mark.parametrize("sample", [None, SHAPE, name("sample")])
def test_folded_weights_load_by_the_printed_lines(sample, capsys):
    _, expected = saved()
    options = {} if sample is None else {"sample": sample}

    assert call("fold", checkpoint="x.safetensors", out="y.safetensors", **options) == 0

    shown = capsys.readouterr().out
    model = rebuilt(shown)
    assert [type(layer).__name__ for layer in model[1:3]] == ["Identity", "ReLU"]
    assert close(answer(model), expected)
    assert not torch.equal(answer(models.small().eval()), expected)
    assert ("outputs, eval: max error" in shown) == (sample is not None)


def test_a_shift_that_only_trained_statistics_have_is_in_the_lines(capsys):
    _, expected = saved(models.padded)

    call("fold", model="padded", checkpoint="x.safetensors", out="y.safetensors")

    shown = capsys.readouterr().out
    assert "fill_(1.0)" in shown
    assert close(answer(rebuilt(shown)), expected)


def test_a_model_that_needs_the_sample_is_rebuilt_with_it(capsys):
    _, expected = saved(models.Branching)

    options = {"sample": name("sample"), "out": "y.safetensors"}
    assert call("fold", model="Branching", checkpoint="x.safetensors", **options) == 0

    assert close(answer(rebuilt(capsys.readouterr().out)), expected)


def test_lines_that_do_not_work_are_not_printed(monkeypatch, capsys):
    saved()
    monkeypatch.setattr(_recipe, "_shown", lambda model: object())

    assert call("fold", checkpoint="x.safetensors", out="y.safetensors") == 0

    shown = capsys.readouterr().out
    assert "load_state_dict" not in shown
    assert "Load the former weights and call bn.fold again." in shown


def test_the_header_says_what_was_done_and_how_to_load_it(capsys):
    saved()
    call("recalibrate", checkpoint="x.safetensors", loader=name("loader"), out="a.safetensors")
    call("fold", checkpoint="a.safetensors", sample=SHAPE, out="y.safetensors")

    metadata = header("y.safetensors")
    steps = json.loads(metadata["batchnorm.history"])
    assert [step["command"] for step in steps] == ["recalibrate", "fold"]
    assert [step["checkpoint"] for step in steps] == ["x.safetensors", "a.safetensors"]
    assert steps[1]["options"] == {"sample": SHAPE}
    assert metadata["batchnorm.load"] in capsys.readouterr().out
    assert "load_file('y.safetensors')" in metadata["batchnorm.load"]


def test_the_report_is_json(capsys):
    saved()

    call("fold", checkpoint="x.safetensors", sample=SHAPE, report="r.json")

    with open("r.json") as file:
        report = json.load(file)
    changes = {change["path"]: change for change in report["result"]["changes"]}
    assert changes["1"]["after"] == "torch.Identity"
    assert report["result"]["proofs"][0]["max_rel"] < 1e-5
    assert report["command"] == "fold"
    assert "the weights were not written" in capsys.readouterr().out


def test_onnx_gives_the_same_numbers_for_other_batch_sizes():
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the dev extra")
    model, _ = saved()

    assert call("fold", checkpoint="x.safetensors", sample=SHAPE, onnx="y.onnx") == 0

    session = onnxruntime.InferenceSession("y.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(9, 3, 8, 8)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert close(torch.as_tensor(found), model(x).detach())


def test_onnx_without_its_packages_or_a_sample_is_refused_at_once(monkeypatch, capsys):
    assert call("fold", onnx="y.onnx") == 1
    assert "--onnx needs a sample" in capsys.readouterr().err

    monkeypatch.setattr(_onnx, "find_spec", lambda name: None)
    assert call("fold", onnx="y.onnx", sample=SHAPE) == 1
    assert "pip install onnx onnxscript" in capsys.readouterr().err


def test_converted_weights_keep_names_and_bits(capsys):
    before, expected = saved()
    options = ("--option", "ghost-batch-size=2", "--only", "1", "--sample", SHAPE)

    call("convert", *options, to="GhostBatchNorm", checkpoint="x.safetensors", out="y.safetensors")

    model = rebuilt(capsys.readouterr().out)
    kinds = [type(model[i]).__name__ for i in (1, 4)]
    assert kinds == ["GhostBatchNorm2d", "BatchNorm2d"]
    assert model[1].ghost_batch_size == 2
    assert type(model[4]) is torch.nn.BatchNorm2d
    written = load_file("y.safetensors")
    assert all(torch.equal(written[n], t) for n, t in before.state_dict().items())
    assert close(answer(model), expected)


def test_a_fused_model_is_rebuilt_with_its_new_forward(capsys):
    _, expected = saved(models.Block)
    given = {"model": "Block", "checkpoint": "x.safetensors", "out": "y.safetensors"}

    assert call("convert", "--fuse", sample=SHAPE, **given) == 0

    model = rebuilt(capsys.readouterr().out)
    assert model.norm.activation == "relu"
    assert close(answer(model), expected)


def test_convert_names_the_option_that_is_wrong(capsys):
    assert call("convert", "--option", "ghost=3", to="GhostBatchNorm") == 1
    assert capsys.readouterr().err.startswith(
        "batchnorm convert: GhostBatchNorm has no such option"
    )
    assert call("convert", "--option", "ghost") == 1
    assert "--option is name=value. Got 'ghost'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--start", "identity"], ["--where", "input", "--sample", SHAPE], ["--option", "eps=1e-3"]],
    ids=lambda options: options[0],
)
def test_inserted_weights_load_by_the_printed_lines(options, capsys):
    _, expected = saved(models.plain)

    assert call("insert", *options, model="plain", checkpoint="x.safetensors", out="y.pt") == 0

    model = rebuilt(capsys.readouterr().out)
    place = 0
    assert type(model[place].norm).__name__ == "BatchNorm2d"
    if "identity" in options:
        assert (model[0].norm.weight > 1).all()  # sqrt(1 + eps)
        assert close(answer(model), expected)
    if "eps=1e-3" in options:
        assert model[0].norm.eps == 1e-3


def test_freeze_shows_what_it_would_hold_and_writes_no_weights(tmp_path, capsys):
    saved()

    assert call("freeze", "--affine", "--fold", checkpoint="x.safetensors", sample=SHAPE) == 0

    shown = capsys.readouterr().out
    assert "frozen=stats+weight+bias" in shown
    assert "folded into 0 at every call" in shown
    assert "bn.freeze(model, affine=True, fold=True)" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_prune_report_lists_small_weights(capsys):
    model, _ = saved()
    state = model.state_dict()
    state["1.weight"][3] = 0.0
    save_file(state, "x.safetensors")

    assert call("prune-report", checkpoint="x.safetensors", report="r.json") == 0

    with open("r.json") as file:
        rows = json.load(file)["result"]["rows"]
    assert [row["channels"] for row in rows] == [[3], []]
    assert "1 of 12 channels" in capsys.readouterr().out
