"""batchnorm recalibrate, adapt, gap: the functions' numbers, from files to files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import batchnorm as bn

from . import models
from .commands import call, name, same, trained


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(trained().state_dict(), "x.safetensors")


def from_file(path="x.safetensors"):
    model = models.small().eval()
    model.load_state_dict(load_file(path))
    return model


@pytest.mark.parametrize("order", ["together", "layerwise"])
def test_recalibrated_weights_are_those_of_the_function(order, capsys):
    expected = from_file()
    bn.recalibrate(expected, models.loader(), order=order)
    options = {"loader": name("loader"), "order": order, "out": "y.safetensors"}

    assert call("recalibrate", checkpoint="x.safetensors", report="r.json", **options) == 0

    assert same("y.safetensors", expected.state_dict())
    assert not torch.equal(from_file("y.safetensors")[1].running_mean, from_file()[1].running_mean)
    with open("r.json") as file:
        report = json.load(file)
    assert [layer["path"] for layer in report["result"]["layers"]] == ["1", "4"]
    assert report["result"]["stopped"] == "end of data"
    assert "recalibrated 2 layers" in capsys.readouterr().out


def test_a_budget_ends_recalibration(capsys):
    call("recalibrate", "--max-batches", "2", loader=name("loader"))

    assert "in 2 batches (budget)" in capsys.readouterr().out


def test_progress_is_shown_when_asked_for(capsys):
    call("recalibrate", "--progress", loader=name("loader"))

    captured = capsys.readouterr()
    assert "100%" in captured.err
    assert "100%" not in captured.out


@pytest.mark.parametrize("method", ["adabn", "mix", "tent"])
def test_adapted_weights_are_those_of_the_function(method):
    expected = from_file()
    options = {"mix": {"prior": 5.0}, "tent": {"epochs": 2}}.get(method, {})
    bn.adapt(expected, models.loader(), method, **options)

    given = {"loader": name("loader"), "method": method, "out": "y.safetensors", **options}
    assert call("adapt", "--no-progress", checkpoint="x.safetensors", **given) == 0

    assert same("y.safetensors", expected.state_dict())
    assert torch.equal(from_file("y.safetensors")[1].weight, from_file()[1].weight) != (
        method == "tent"
    )


@pytest.mark.parametrize("source", ["loader", "sample"])
def test_gap_shows_every_layer_and_the_loss(source, capsys):
    options = {"loader": {"loader": name("loader"), "loss": name("loss")}}
    given = options.get(source, {"sample": name("sample")})

    assert call("gap", checkpoint="x.safetensors", report="r.json", **given) == 0

    shown = capsys.readouterr().out
    assert ("loss:" in shown) == (source == "loader")
    with open("r.json") as file:
        result = json.load(file)["result"]
    batch = models.loader()[0] if source == "loader" else models.sample()
    expected = bn.train_eval_gap(from_file(), batch)
    assert result["layers"][0]["output"] == pytest.approx(expected.layers[0].output)
    assert len(result["layers"][1]["mean_errors"]) == 4
    assert (result["loss_eval"] is None) == (source == "sample")  # NaN in Python


def test_gap_draws_a_chart_that_needs_no_network():
    pytest.importorskip("altair", reason="needs the lab extra")

    assert call("gap", sample=name("sample"), plot="gap.html") == 0

    with open("gap.html", encoding="utf-8") as file:
        text = file.read()
    assert "standard errors" in text
    assert 'src="http' not in text


def test_gap_wants_one_batch(capsys):
    assert call("gap") == 1
    assert "Pass either --loader or --sample" in capsys.readouterr().err
    assert call("gap", sample="2,3,8,8", plot="gap.jpg") == 1
    assert "a chart ends in its format" in capsys.readouterr().err


def test_a_loader_that_fails_writes_nothing_and_says_where(tmp_path, capsys):
    given = {"loader": name("failing"), "out": "y.safetensors", "report": "r.json"}

    assert call("recalibrate", **given) == 1

    error = capsys.readouterr().err
    assert error.startswith("batchnorm recalibrate: OSError at ")
    assert "models.py:" in error
    assert "the disk is gone" in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_data_that_can_be_read_once_is_refused_where_it_is_read_twice(capsys):
    assert call("adapt", loader=name("once"), method="tent") == 1
    assert capsys.readouterr().err.startswith("batchnorm adapt: method='tent' reads the data")
