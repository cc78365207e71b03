"""Watching changes no number of a training, and leaves nothing behind."""

import importlib
import random

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from batchnorm.watch import WatchWarning
from batchnorm.watch.sinks import Memory
from tests.watch.nets import assert_same_bits, batches, hooks, net, train


def watcher(model, **options):
    return lambda optimizer: bn.watch(model, optimizer=optimizer, on_alert=None, **options)


@pytest.mark.parametrize("norm", [bn.BatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("every", [1, 2])
def test_training_is_the_same_bit_by_bit(norm, every):
    alone, watched = net(norm), net(norm)
    train(alone)
    train(watched, watcher=watcher(watched, every=every, conditions=True))
    assert_same_bits(alone, watched)


def test_random_numbers_go_on_as_without():
    model = net()
    train(model)
    want = torch.rand(3), random.random()
    random.seed(0)
    train(model)
    want = torch.rand(3), random.random()
    random.seed(0)
    train(model, watcher=watcher(model, every=1))
    assert torch.equal(torch.rand(3), want[0])
    assert random.random() == want[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_the_same_bit_by_bit(dtype):
    def run(watch: bool):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
        with bn.watch(model, optimizer=optimizer, every=1 if watch else 1000) as watching:
            for x, y in batches(3):
                with torch.autocast("cpu", dtype):
                    loss = nn.functional.cross_entropy(model(x), y)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        return model, watching

    (alone, _), (watched, watching) = run(False), run(True)
    assert_same_bits(alone, watched)
    rows = [row for row in watching.recording.layers if row["path"] == "1"]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(row["grad_norm"] > 0 for row in rows)


def test_no_hook_is_left_when_the_body_ends_or_raises():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with bn.watch(model, optimizer=optimizer, every=1):
        assert hooks(model) > 0
    assert hooks(model) == 0

    def interrupted():
        with bn.watch(model, optimizer=optimizer, every=1, on_alert=None):
            model(batches(1)[0][0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert hooks(model) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_there_are_hooks_only_in_recorded_steps():
    model = net()
    with bn.watch(model, every=3, on_alert=None) as watching:
        for step in range(4):
            assert (hooks(model) > 0) == (step % 3 == 0)
            model(batches(1)[0][0])
            watching.step()


def test_a_forward_that_raises_does_not_end_the_recording():
    model = net()
    with bn.watch(model, every=1, on_alert=None) as watching:
        with pytest.raises(RuntimeError):
            model(torch.zeros(2, 9, 10, 10))
        model(batches(1)[0][0])
        watching.step()
    assert {row["path"] for row in watching.recording.layers} >= {"1", "5"}


def test_a_failing_measurement_ends_the_recording_and_not_the_training(monkeypatch):
    alone, watched = net(), net()
    train(alone)

    def broken(*args, **kwargs):
        raise MemoryError("none left")

    recorder = importlib.import_module("batchnorm.watch._recorder")
    monkeypatch.setattr(recorder, "take", broken)
    with pytest.warns(WatchWarning, match="training goes on.*none left"):
        train(watched, watcher=watcher(watched, every=1))
    assert_same_bits(alone, watched)
    assert hooks(watched) == 0


def test_a_failing_sink_ends_the_recording_and_not_the_training():
    class Full(Memory):
        def write(self, rows):
            raise OSError("no space left on device")

    model = net()
    with pytest.warns(WatchWarning, match="no space left"):
        train(model, watcher=watcher(model, every=1, to=Full()))


def test_validation_is_not_recorded():
    model = net()
    with bn.watch(model, every=1, on_alert=None) as watching:
        model(batches(1)[0][0])
        model.eval()
        model(batches(1)[0][0] * 100)
        model.train()
        watching.step()
    row = next(row for row in watching.recording.layers if row["path"] == "1")
    assert row["samples"] == 12 * 64
    assert abs(row["in_std"]) < 3


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_by_checkpointing_is_not_recorded_twice(reentrant):
    model = net()
    x = batches(1)[0][0].requires_grad_()
    with bn.watch(model, every=1, on_alert=None) as watching:
        checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
        watching.step()
    rows = [row for row in watching.recording.layers if row["kind"] == "batchnorm"]
    assert [row["path"] for row in rows] == ["1", "5"]
    assert [row["samples"] for row in rows] == [12 * 64, 12 * 36]
    assert rows[0]["updates_per_call"] == 1


def test_transforms_of_torch_func_run_unheard():
    model = bn.BatchNorm1d(3, track_running_stats=False)
    x = torch.randn(4, 5, 3)
    want = torch.func.vmap(model)(x)
    with bn.watch(model, every=1) as watching:
        assert torch.equal(torch.func.vmap(model)(x), want)
        watching.step()
    assert watching.recording.layers[0]["in_mean"] is None


def test_an_unheard_forward_is_told():
    model = net()
    with (
        pytest.warns(WatchWarning, match="no watched module was called"),
        bn.watch(model, every=1) as watching,
    ):
        watching.step()


def test_two_forwards_before_one_backward():
    # Values in the graph must not be written to: torch would refuse the backward.
    model = net()
    with bn.watch(model, every=1, on_alert=None) as watching:
        x, _ = batches(1)[0]
        (model(x) - model(x + 1)).square().sum().backward()
        watching.step()
    assert {row["path"] for row in watching.recording.layers if row["kind"] == "batchnorm"} == {
        "1",
        "5",
    }
