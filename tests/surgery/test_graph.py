"""What feeds what: the same answer by every way, and what each way can and cannot see."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import batchnorm as bn
from batchnorm.surgery._graph import name_of
from batchnorm.surgery._trace import trace

WAYS = ["fx", "export", "run"]


class Block(nn.Module):
    """Residual block: functions and modules, in place and not, a shared and an unused layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn1 = bn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.unused = nn.BatchNorm2d(4)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.drop(self.conv2(y)))
        y += x.view(x.shape)
        return torch.relu_(y)


class Branching(nn.Module):
    """Its way depends on its values: only a run shows it."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU())
        self.other = nn.Linear(3, 3)

    def forward(self, x):
        return self.other(self.block(x)) if x.sum() > 0 else self.block(self.other(x))


def find(graph, path):
    (call,) = [call for call in graph.calls if call.target == path]
    return call


@pytest.mark.parametrize("way", WAYS)
def test_every_way_sees_the_same_block(way):
    graph = trace(Block().eval(), torch.randn(2, 4, 5, 5), ways=[way])

    conv1, bn1, conv2, bn2 = (find(graph, name) for name in ("conv1", "bn1", "conv2", "bn2"))
    assert graph.way == way
    assert graph.reader(conv1) is bn1
    assert graph.source(bn1) is conv1
    assert graph.source(bn2) is conv2  # through dropout
    relu = graph.reader(bn1)
    assert (relu.kind, relu.target, relu.inplace) == ("function", "relu", False)
    assert relu.inputs == [bn1]
    assert graph.reader(relu) is conv2
    add = graph.reader(bn2)
    assert add.target == "add"
    last = graph.reader(add)
    assert (last.target, last.inplace) == ("relu", True)
    assert graph.reader(last).kind == "output"
    assert "unused" not in {call.target for call in graph.calls if call.kind == "module"}


@pytest.mark.parametrize("way", WAYS)
def test_an_output_that_is_read_twice_has_no_single_reader(way):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

        def forward(self, x):
            y = self.fc(x)
            return self.norm(y) + y

    graph = trace(Twice().eval(), torch.randn(2, 3), ways=[way])

    assert graph.reader(find(graph, "fc")) is None
    assert graph.source(find(graph, "norm")) is None


@pytest.mark.parametrize("way", WAYS)
def test_asking_for_a_shape_is_not_reading(way):
    class Shape(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

        def forward(self, x):
            y = self.fc(x)
            return self.norm(y).view(y.shape[0], y.size(1), 1)

    graph = trace(Shape().eval(), torch.randn(2, 3), ways=[way])

    assert graph.reader(find(graph, "fc")) is find(graph, "norm")


@pytest.mark.parametrize("way", WAYS)
def test_dropout_counts_as_identity_only_when_it_is_off(way):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    x = torch.randn(4, 3)

    off = trace(model.eval(), x, ways=[way])
    assert off.source(find(off, "2")) is find(off, "0")

    on = trace(model.train(), x, ways=[way])
    assert on.source(find(on, "2")) is find(on, "1")


@pytest.mark.parametrize("way", WAYS)
def test_a_shared_layer_has_a_call_for_each_use(way):
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)

    graph = trace(model, torch.randn(2, 3), ways=[way])

    assert len(graph.calls_of(shared)) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_parameter_used_outside_its_layer_is_seen(way):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.other = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return F.linear(self.other(self.fc(x)), self.fc.weight)

    model = Tied()
    graph = trace(model, torch.randn(2, 3), ways=[way])

    assert graph.reads_parameters_of(model.fc)
    assert not graph.reads_parameters_of(model.other)


@pytest.mark.parametrize("way", ["fx", "run"])
def test_residual_of_our_layer_stays_a_named_argument(way):
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = bn.BatchNorm1d(3, activation="relu")

        def forward(self, x):
            return self.norm(2 * x, residual=x)

    graph = trace(Fused().eval(), torch.randn(2, 3), ways=[way])

    call = find(graph, "norm")
    assert call.kwargs["residual"].kind == "input"
    assert len(call.inputs) == 2


def test_ways_are_tried_in_order_and_the_reasons_kept():
    sample = torch.ones(2, 3)

    graph = trace(Branching().eval(), sample)

    assert graph.way == "run"
    assert [note.split(" fails")[0] for note in graph.notes] == ["torch.fx", "torch.export"]
    assert graph.reader(find(graph, "block.2")) is find(graph, "other")


def test_ways_that_fail_say_nothing(capfd):
    assert trace(Branching(), torch.randn(4, 3)).way == "run"
    assert capfd.readouterr() == ("", "")


def test_without_a_sample_the_traceable_parts_are_found():
    graph = trace(Branching().eval())

    assert graph.way == "parts"
    assert graph.source(find(graph, "block.1")) is find(graph, "block.0")
    assert "other" not in {call.target for call in graph.calls}
    assert any("the model" in note for note in graph.notes)


def test_an_opaque_part_does_not_hide_the_rest():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), Branching()).eval()

    graph = trace(model)

    assert graph.way == "parts"
    assert graph.source(find(graph, "1")) is find(graph, "0")
    assert graph.source(find(graph, "2.block.1")) is find(graph, "2.block.0")


def test_optional_arguments_take_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x, scale=None, twice=False, how="plain"):
            y = self.fc(x)
            if scale is not None:
                y = y * scale
            return y + y if twice or how != "plain" else y

    graph = trace(Optional())

    assert graph.way == "fx"
    assert graph.reader(find(graph, "fc")).kind == "output"


@pytest.mark.parametrize("way", WAYS)
def test_tracing_changes_nothing(way):
    model = nn.Sequential(bn.BatchNorm1d(3), nn.Dropout(), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()

    trace(model, torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), ways=[way])

    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), rng)
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("way", ["fx", "run"])  # torch.export refuses such models
def test_a_model_that_stores_what_passes_keeps_its_attributes(way):
    class Storing(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.last = nn.Linear(3, 3), None

        def forward(self, x):
            self.last = self.fc(x)
            self.other = self.last
            return self.last

    model = Storing()

    trace(model, torch.randn(2, 3), ways=[way])

    assert model.last is None
    assert not hasattr(model, "other")


def test_hooks_are_removed_when_the_sample_does_not_fit():
    model = nn.Sequential(nn.Linear(3, 3))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trace(model, torch.randn(2, 5), ways=["run"])

    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (torch.add, ("add", False)),
        (torch.Tensor.add_, ("add", True)),
        (torch.Tensor.__radd__, ("add", False)),
        ("relu_", ("relu", True)),
        (F.relu, ("relu", False)),
        (torch.Tensor.shape.__get__, ("shape", False)),
    ],
)
def test_one_name_for_all_spellings(function, expected):
    assert name_of(function) == expected
