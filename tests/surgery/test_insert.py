"""Batch norm where it belongs, and nowhere else; the function kept where that was asked."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import batchnorm as bn
from batchnorm.surgery import insert
from tests.surgery.models import (
    assert_same_optimizer,
    assert_same_picture,
    optimizer_picture,
    picture,
)
from tests.surgery.test_swap import stepped


class Net(nn.Module):
    """Convolutions with functional activations, a shared layer, a linear head."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 1)
        self.wide = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = F.relu(self.one(x))
        x = F.relu(self.two(x) + x)
        x = self.again(self.again(x))
        return self.head(torch.tanh(self.wide(x.mean((2, 3)))))


def mlp():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 2))


def reasons(report):
    return {change.path: (change.action, change.reason) for change in report.changes}


def test_each_decision_is_explained():
    report = insert(Net())
    assert reasons(report) == {
        "one": ("added", "before relu; its bias moved"),
        "two": ("added", "behind it, before no activation; its bias moved"),
        "again": (
            "skipped",
            "it is called 2 times: one set of statistics would not fit all",
        ),
        "wide": ("added", "before tanh; its bias moved"),
        "head": ("skipped", "it is an output layer: its values leave the model"),
    }


def test_norms_fit_their_layers():
    model = Net()
    insert(model, momentum=0.3)
    assert type(model.one.norm) is bn.BatchNorm2d
    assert type(model.wide.norm) is bn.BatchNorm1d
    assert (model.wide.norm.num_features, model.wide.norm.momentum) == (5, 0.3)
    assert type(model.head) is nn.Linear


def test_output_is_normalised_before_the_activation():
    model = nn.Sequential(nn.Linear(3, 8), nn.Identity(), nn.Linear(8, 2)).double()
    insert(model)
    y = model[0](torch.randn(50, 3).double() * 7 + 3)
    torch.testing.assert_close(y.mean(0), torch.zeros(8).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(8).double(), atol=1e-4, rtol=0)


def test_after_the_activation():
    model = mlp()
    report = insert(model, "after_activation")
    assert type(model[0]) is nn.Linear
    assert model[0].bias is not None
    assert type(model[1].layer) is nn.ReLU
    assert model[1].norm.num_features == 8
    assert reasons(report)["0"] == ("added", "behind ReLU")
    y = model[1](model[0](torch.randn(64, 3)))
    torch.testing.assert_close(y.mean(0), torch.zeros(8), atol=1e-5, rtol=0)


def test_after_an_activation_that_is_no_module_of_its_own_is_refused():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 1))
    for change in insert(model, "after_activation").skipped[:2]:
        assert 'is shared: use where="before_activation"' in change.reason
    assert "is a function" in reasons(insert(Net(), "after_activation"))["one"][1]


@pytest.mark.parametrize("where", ["before_activation", "after_activation"])
@pytest.mark.parametrize("with_sample", [True, False])
def test_identity_start_keeps_the_function_at_inference(where, with_sample):
    model = mlp().double()
    twin, x = copy.deepcopy(model), torch.randn(32, 3).double() * 3 + 1
    insert(model, where, start="identity", sample=x if with_sample else None)
    model.eval()
    torch.testing.assert_close(model(x), twin(x), rtol=1e-12, atol=1e-12)
    other = torch.randn(5, 3).double()
    torch.testing.assert_close(model(other), twin(other), rtol=1e-12, atol=1e-12)


def test_identity_start_undoes_its_own_statistics():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    bias, x = model[0].bias.detach().clone(), torch.randn(64, 3).double()
    y = model[0](x).detach()
    insert(model, start="identity", sample=x)
    norm = model[0].norm
    torch.testing.assert_close(norm.bias.detach(), y.mean(0))
    torch.testing.assert_close(norm.running_mean, y.mean(0) - bias)
    torch.testing.assert_close(norm.running_var, y.var(0, correction=0))
    torch.testing.assert_close(norm.weight.detach(), (norm.running_var + norm.eps).sqrt())
    assert model[0].layer.bias is None


def test_identity_start_over_convolutions_and_sequences():
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.ConvTranspose1d(4, 2, 2), nn.Tanh())
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(18, 2)).double()
    twin, x = copy.deepcopy(model), torch.randn(6, 3, 10).double()
    report = insert(model, start="identity", sample=x)
    assert [change.action for change in report.changes] == ["added", "added", "skipped"]
    torch.testing.assert_close(model.eval()(x), twin(x), rtol=1e-12, atol=1e-12)


def test_standard_start_only_scales_by_eps_at_inference():
    model = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 1)).double()
    x = torch.randn(5, 3).double()
    want = model[0](x) / (1 + 1e-5) ** 0.5
    insert(model)
    torch.testing.assert_close(model.eval()[0](x), want)


def test_what_is_normalised_already_is_left():
    class Pre(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)
            self.out = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.out(self.norm(F.relu(self.conv(x)) + x))

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), Pre())
    found = reasons(insert(model))
    assert found["0"][1] == "it is normalised already, by 1"
    assert found["3.conv"][1] == "it is normalised already, by 3.norm"
    assert found["3.out"][0] == "skipped"


def test_a_second_insertion_finds_nothing_more():
    model = mlp()
    insert(model)
    before = picture(model)
    assert not insert(model).done
    assert_same_picture(picture(model), before)


def test_recurrent_layers_are_normalised_over_all_steps():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            outputs, _ = self.lstm(x)
            return self.head(outputs[:, -1])

    model = Tagger().double()
    twin, x = copy.deepcopy(model), torch.randn(5, 7, 3).double()
    report = insert(model, start="identity", sample=x)
    assert type(model.lstm.norm) is bn.layers.SequenceBatchNorm
    assert reasons(report)["lstm"][0] == "added"
    torch.testing.assert_close(model.eval()(x), twin(x), rtol=1e-12, atol=1e-12)
    outputs, (state, _) = model.train().lstm(x)
    torch.testing.assert_close(outputs.mean((0, 1)), model.lstm.norm.bias.detach())
    assert state.shape == (2, 5, 4)


def test_linear_layers_over_sequences_need_the_sample():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.randn(5, 6, 3).double()
    insert(model, sample=x)
    assert type(model[0].norm) is bn.layers.SequenceBatchNorm
    assert model(x).shape == (5, 6, 2)


@pytest.mark.parametrize("start", ["standard", "identity"])
def test_input_brings_features_to_one_scale(start):
    model = mlp()
    scales = torch.tensor([1e-3, 1.0, 1e4])
    x = torch.randn(64, 3) * scales + scales
    want = copy.deepcopy(model)(x)
    report = insert(model, "input", start=start, sample=x)
    norm = model[0].norm
    assert norm.num_features == 3
    assert norm.affine is (start == "identity")
    assert report.done[0].reason == "before its input"
    if start == "identity":
        torch.testing.assert_close(model.eval()(x), want)
    else:
        y = norm(x)
        torch.testing.assert_close(y.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(y.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_constant_features_do_not_decide_epsilon():
    x = torch.randn(64, 3) * 1e-3
    x[:, 1] = 1234.5
    model = mlp()
    insert(model, "input", sample=x)
    assert 1e-12 < model[0].norm.eps < 1e-10
    assert model[0].norm(x)[:, 1].abs().max() < 1.0


def test_input_that_goes_several_ways_is_an_error():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.a(x) + self.b(x)

    with pytest.raises(ValueError, match="the input is read in 2 places"):
        insert(Two(), "input")


def test_checkpoints_from_before_load_and_keep_the_function():
    model = mlp().double()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(16, 3).double()
    for start in ("standard", "identity"):
        other = mlp().double()
        insert(other, start=start, sample=x)
        missing = other.load_state_dict(state)
        assert not missing.missing_keys
        assert not missing.unexpected_keys
        bound = 1e-12 if start == "identity" else 1e-4
        torch.testing.assert_close(other.eval()(x), model(x), rtol=bound, atol=bound)


def test_own_checkpoints_load():
    model = Net()
    insert(model)
    model(torch.randn(4, 3, 8, 8))
    other = Net()
    insert(other)
    other.load_state_dict(model.state_dict(), strict=True)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_undo_and_optimizer_are_exact():
    model = Net()
    decayed = [p for n, p in model.named_parameters() if n.endswith("weight")]
    rest = [p for n, p in model.named_parameters() if n.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": rest, "weight_decay": 0.0}], lr=1e-3
    )
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    before, before_optimizer = picture(model), optimizer_picture(optimizer)
    report = insert(model, optimizer=optimizer)
    names = {id(p): n for n, p in model.named_parameters()}
    plain = [names[id(p)] for p in optimizer.param_groups[1]["params"]]
    assert {"one.norm.weight", "one.norm.bias", "head.bias"} <= set(plain)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(names)
    report.undo()
    assert_same_picture(picture(model), before)
    assert_same_optimizer(optimizer_picture(optimizer), before_optimizer)


def test_a_failing_sample_leaves_everything_as_it_was():
    model = Net()
    optimizer = stepped(model)
    before, before_optimizer = picture(model), optimizer_picture(optimizer)
    with pytest.raises(RuntimeError):
        insert(model, sample=torch.randn(2, 9, 8, 8), optimizer=optimizer)
    assert_same_picture(picture(model), before)
    assert_same_optimizer(optimizer_picture(optimizer), before_optimizer)


def test_only_chooses():
    model = mlp()
    report = insert(model, only=lambda path, layer: path == "2")
    assert [change.path for change in report.done] == ["2"]
    assert reasons(report)["0"] == ("skipped", "not chosen by only")


def test_models_without_layers_and_unknown_words_are_errors():
    with pytest.raises(ValueError, match="must have convolutions"):
        insert(nn.ReLU())
    with pytest.raises(ValueError, match="where must be one of"):
        insert(mlp(), "behind")
    with pytest.raises(ValueError, match="start must be one of"):
        insert(mlp(), start="zero")


def test_an_untraceable_model_asks_for_a_sample():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            y = self.a(x)
            return self.b(y if float(y.detach().sum()) > -1e9 else -y)

    with pytest.raises(ValueError, match="Pass sample="):
        insert(Branching())
    model = Branching()
    report = insert(model, sample=torch.randn(4, 3))
    assert [change.path for change in report.done] == ["a"]


def test_the_layers_attributes_stay_within_reach_and_copies_work():
    model = mlp()
    insert(model)
    assert model[0].in_features == 3
    assert model[0].weight is model[0].layer.weight
    x = torch.randn(4, 3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.eval()(x), model.eval()(x))
    with pytest.raises(AttributeError, match="nothing"):
        model[0].nothing


def test_models_with_inserted_norms_compile_export_and_fold():
    model, x = mlp(), torch.randn(6, 3)
    insert(model)
    model(x)
    model.eval()
    want = model(x)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), want)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), want)
    report = bn.fold(model, x)
    assert not report.skipped
    torch.testing.assert_close(model(x), want)


@pytest.mark.parametrize("seed", range(5))
def test_identity_start_is_proved_in_the_models_own_dtype(seed):
    # Its weight, sqrt(var + eps), is rounded to float32 before a float64 copy is compared.
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU())
    model.append(nn.Flatten()).append(nn.Linear(64, 2))
    x = torch.randn(4, 3, 8, 8)
    before = model.eval()(x)
    report = insert(model, start="identity", sample=x)
    assert len(report.done) >= 2
    torch.testing.assert_close(model(x), before)
