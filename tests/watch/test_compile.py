"""Compiled models: no graph is made anew, no number changes, and all is heard."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.watch import WatchWarning
from tests.watch.nets import assert_same_bits, batches, hooks, net, train

# Torch looks for gradients of inputs while it compiles.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(how: str):
    """The model that trains, and the one inside."""
    model = net()
    if how == "in place":
        model.compile(backend="aot_eager", fullgraph=True)
        return model, model
    if how == "a part":
        model[4].compile(backend="aot_eager")
        return model, model
    return torch.compile(model, backend="aot_eager", fullgraph=True), model


@pytest.mark.parametrize("how", ["wrapper", "in place", "a part"])
def test_a_compiled_training_is_the_same_and_is_heard(how):
    runs = {}
    for watched in (False, True):
        torch._dynamo.reset()
        model, inner = compiled(how)

        def watcher(optimizer, model=model):
            return bn.watch(model, optimizer=optimizer, every=2, on_alert=None)

        runs[watched] = inner, train(model, watcher=watcher if watched else None, inner=inner)
    assert_same_bits(runs[False][0], runs[True][0])
    assert hooks(runs[True][0]) == 0
    rows = runs[True][1].recording.layers
    assert [row["step"] for row in rows if row["path"] == "5"] == [0, 2, 4]
    for row in rows:
        if row["kind"] == "batchnorm":
            assert row["samples"] in (12 * 64, 12 * 36)
            assert row["updates_per_call"] == 1


def test_a_run_beside_hears_what_the_eager_forward_would():
    eager, (model, _) = net(), compiled("wrapper")
    recordings = []
    for one in (eager, model):
        with bn.watch(one, every=1, on_alert=None) as watching:
            torch.manual_seed(0)
            one(batches(1)[0][0])
            watching.step()
        recordings.append(watching.recording.layers)
    for a, b in zip(*recordings, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


def test_no_graph_is_compiled_anew():
    model, _ = compiled("wrapper")
    x = batches(1)[0][0]
    model(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        model(x)
    counters = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with bn.watch(model, every=1, on_alert=None) as watching:
        for _ in range(2):
            model(x)
            watching.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == counters


def test_a_compiled_function_around_the_model_is_told_and_compiles_whole():
    model = net()

    @torch.compile(backend="aot_eager", fullgraph=True)
    def forward(x):
        return model(x).square().sum()

    with bn.watch(model, every=1, on_alert=None) as watching:
        forward(batches(1)[0][0])
        with pytest.warns(WatchWarning, match="pass the compiled module"):
            watching.step()


def test_autocast_keeps_its_gradients_when_a_run_beside_came_first():
    # A weight that autocast casts without a gradient would be kept for the real forward.
    model = nn.Sequential(nn.Linear(4, 3), bn.BatchNorm1d(3), nn.Linear(3, 1))
    model[1].compile(backend="aot_eager")
    with bn.watch(model, every=1, on_alert=None) as watching:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.randn(16, 4)).square().sum()
        loss.backward()
        watching.step()
    assert model[0].weight.grad is not None
    assert model[2].weight.grad.abs().sum() > 0
