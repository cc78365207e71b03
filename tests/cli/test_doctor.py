"""batchnorm doctor: exit codes, formats, settings, and what --fix writes."""

import inspect
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from batchnorm.cli import main

from .commands import header, name, rebuilt

SHAPE = "4,3,8,8"


def biased():
    """A model with one fault that can be cured."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)
    )


def sound():
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())


def cursed():
    raise RuntimeError("no weights today")


def by_sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


def examine(model, *options):
    return main(["doctor", f"{__name__}:{model.__name__}", *options])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_faults_exit_with_1_and_are_shown_with_path_number_and_remedy(capsys):
    assert examine(biased, "--select", "BN001") == 1

    shown = capsys.readouterr().out
    assert "0  BN001*  warning  a bias of 8 values" in shown
    assert "Use bias=False." in shown


def test_a_sound_model_exits_with_0(capsys):
    assert examine(sound, "--select", "BN001,BN002", "--sample", SHAPE) == 0
    assert "nothing found; 2 rules looked" in capsys.readouterr().out


def test_info_alone_exits_with_0(capsys):
    assert main(["doctor", f"{__name__}:with_an_embedding", "--select", "BN002"]) == 0
    assert "1 info" in capsys.readouterr().out


def with_an_embedding():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_loss_that_compares_makes_it_a_warning(capsys):
    options = ("--select", "BN002", "--loss", "torch.nn:MSELoss")
    assert main(["doctor", f"{__name__}:with_an_embedding", *options]) == 1
    assert "1 warning" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--select", "BN9"), "no rule is called 'BN9'"),
        (("--sample", "3x3"), "--sample is a shape or pkg.mod:function"),
        (("--checkpoint", "none.pt"), "the checkpoint must be a file"),
        (("--config", "none.toml"), "none.toml"),
        (("--format", "xml"), "xml"),
        (("--device", "moon"), "the device must be there"),
        (("--out", "weights.txt"), "a checkpoint ends in its format"),
    ],
)
def test_what_cannot_be_used_exits_with_2_and_says_why(options, said, capsys):
    assert examine(sound, *options) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_cannot_be_made_exits_with_2(capsys):
    assert examine(cursed) == 2
    assert "RuntimeError at " in (shown := capsys.readouterr().err)
    assert "no weights today" in shown


def test_json_is_json_alone(capsys):
    examine(biased, "--format", "json", "--select", "BN001", "--optimizer", name_of("by_sgd"))

    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 1
    assert [(f["code"], f["path"]) for f in found["findings"]] == [("BN001", "0")]
    assert found["findings"][0]["measured"] == {"parameters": 8, "norms": ["1"]}


def name_of(function):
    return f"{__name__}:{function}"


def test_sarif_and_annotations_point_to_the_function_that_makes_the_model(capsys):
    examine(biased, "--format", "sarif", "--select", "BN001")
    assert json.loads(capsys.readouterr().out)["version"] == "2.1.0"

    examine(biased, "--format", "github", "--select", "BN001")
    line = inspect.getsourcelines(biased)[1]
    start = f"::warning file={__file__},line={line},title=BN001 redundant-bias::0: a bias"
    assert capsys.readouterr().out.startswith(start)


def test_settings_are_read_from_this_folder_and_options_win(tmp_path, capsys):
    text = '[tool.batchnorm.doctor]\nignore = ["redundant-bias"]\n'
    (tmp_path / "pyproject.toml").write_text(text)

    assert examine(biased, "--select", "BN001") == 0
    assert examine(biased, "--select", "BN001", "--ignore", "BN002") == 1
    capsys.readouterr()


def test_fixed_weights_load_by_the_printed_lines(capsys):
    torch.manual_seed(5)
    model = biased()
    model[1].running_mean.normal_()
    save_file(model.state_dict(), "x.safetensors")
    x = torch.randn(4, 3, 8, 8)

    code = examine(
        *(biased, "--select", "BN001", "--checkpoint", "x.safetensors"),
        *("--sample", SHAPE, "--fix", "--out", "y.safetensors"),
    )

    shown = capsys.readouterr()
    assert code == 0
    assert "fixed 0: BN001" in shown.out
    assert "outputs, eval: max error" in shown.out
    assert json.loads(header("y.safetensors")["batchnorm.history"])[0]["options"] == {
        "fixed": ["BN001 0"]
    }
    cured = rebuilt(shown.err)
    assert cured[0].bias is None
    expected = model.eval()(x)
    bound = 100 * torch.finfo(x.dtype).eps * expected.abs().max()
    assert (cured(x) - expected).abs().max() <= bound


def test_a_loader_can_be_named(capsys):
    assert examine(sound, "--select", "BN001", "--loader", name("loader")) == 0
    capsys.readouterr()
