"""What is asked for and cannot be had is refused at the door."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.watch.nets import batches, hooks, net


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="every= counts steps. Got every=0"):
        bn.watch(net(), every=0)
    with pytest.raises(ValueError, match="no module called 9 in Sequential"):
        bn.watch(net(), modules=["1", "9"])
    with pytest.raises(ValueError, match="must have the modules to watch.*none in Linear"):
        bn.watch(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="must be a torch optimizer.*Got a str"):
        bn.watch(net(), optimizer="sgd")


def test_steps_are_counted_once():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        bn.watch(model, optimizer=optimizer) as watching,
        pytest.raises(RuntimeError, match="optimizer= and a call of step"),
    ):
        watching.step()


def test_a_recording_elsewhere_is_not_in_memory(tmp_path):
    with (
        bn.watch(net(), to=tmp_path / "run.jsonl") as watching,
        pytest.raises(RuntimeError, match="in memory with to=None.*JsonLines"),
    ):
        _ = watching.recording


def test_a_sink_that_cannot_open_leaves_no_hook(tmp_path):
    (tmp_path / "file").write_text("")
    model = net()
    with pytest.raises(OSError):
        bn.watch(model, to=tmp_path / "file" / "run.jsonl").start()
    assert hooks(model) == 0


def test_chosen_modules_are_watched():
    model = net()
    chosen = lambda path, module: isinstance(module, nn.Conv2d)
    with bn.watch(model, every=1, modules=chosen, on_alert=None) as watching:
        model(batches(1)[0][0])
        watching.step()
    rows = watching.recording.layers
    assert [(r["path"], r["kind"]) for r in rows if r["in_mean"] is not None] == [
        ("0", "other"),
        ("4", "other"),
    ]


def test_two_optimizers_make_one_step():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    optimizers = [torch.optim.SGD(part.parameters(), 0.1) for part in model]
    with bn.watch(model, optimizer=optimizers, every=1, on_alert=None) as watching:
        for _ in range(2):
            model(torch.randn(16, 3)).pow(3).mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert watching.steps == 2
    rows = watching.recording.layers
    assert [row["step"] for row in rows] == [0, 0, 1, 1]
    assert all(row["update_ratio"] > 0 and row["grad_norm"] > 0 for row in rows)
