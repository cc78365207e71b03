"""Surgery on models that compute, hold or count in odd ways: the same function, or a reason."""

import copy
import types

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import batchnorm as bn

X = torch.randn(4, 3, 8, 8)


def seen(model):
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
                layer.num_batches_tracked.fill_(3)
    return model.eval()


def reasons(report):
    return " ".join(change.reason for change in report.skipped)


def weight_norm(conv):
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(conv)


COMPUTED = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": weight_norm,
    "pruning": lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_a_hook_computes_is_not_folded_into(kind):
    model = seen(nn.Sequential(COMPUTED[kind](nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    want = model(X)
    report = bn.fold(model)
    assert "a hook computes the layer's weight" in reasons(report)
    torch.testing.assert_close(model(X), want)


def test_a_pruned_batch_norm_is_not_folded():
    norm = prune.random_unstructured(nn.BatchNorm1d(4), "weight", 0.5)
    report = bn.fold(seen(nn.Sequential(norm, nn.Linear(4, 3))))
    assert "a hook computes its weight" in reasons(report)


def test_a_hook_that_changes_the_input_of_a_batch_norm_keeps_it():
    model = seen(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)))
    model[0].register_forward_pre_hook(lambda layer, args: (args[0] * 2,))
    x = torch.randn(5, 4)
    want = model(x)
    assert "a hook before it" in reasons(bn.fold(model))
    torch.testing.assert_close(model(x), want)


class Holder(nn.Module):
    """Calls its layers by other ways than their names."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.kind = kind
        self.held = {
            "norm in a tuple": (self.norm,),
            "conv in a tuple": (self.conv,),
            "tuple in a dict": {"a": (self.conv, self.norm)},
            "list in a list": [[self.conv, self.norm]],
            "list in a tuple": ([self.conv, self.norm],),
            "bound method": self.norm.forward,
        }[kind]

    def parts(self):
        return {
            "norm in a tuple": lambda: (self.conv, self.held[0]),
            "conv in a tuple": lambda: (self.held[0], self.norm),
            "tuple in a dict": lambda: self.held["a"],
            "list in a list": lambda: self.held[0],
            "list in a tuple": lambda: self.held[0],
            "bound method": lambda: (self.conv, self.held),
        }[self.kind]()

    def forward(self, x):
        conv, norm = self.parts()
        return norm(conv(x))


HELD = ["norm in a tuple", "conv in a tuple", "tuple in a dict", "bound method"]
OPERATIONS = {
    "fold": bn.fold,
    "convert": bn.convert,
    "freeze": bn.freeze,
    "freeze and fold": lambda model: bn.freeze(model, fold=True),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", [*HELD, "list in a list", "list in a tuple"])
def test_what_a_model_holds_elsewhere_stays_what_it_calls(kind, operation):
    model = seen(Holder(kind))
    want = model(X)
    report = OPERATIONS[operation](model)
    torch.testing.assert_close(model(X), want, rtol=1e-4, atol=1e-5)
    norm = model.parts()[1]
    if operation != "fold":
        assert getattr(norm, "__self__", norm) is model.norm
    if kind in HELD[2:] or (operation == "fold" and kind in HELD):
        texts = "where it cannot be exchanged", "could not be traced"
        assert any(text in reasons(report) for text in texts)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("calls", torch.zeros(()))
        self.number, self.last = 0, None

    def forward(self, x):
        self.calls += 1
        self.number += 1
        self.last = torch.relu(self.norm(self.conv(x)))
        return self.last


LOOKS = {
    "fold": bn.fold,
    "fold, sample": lambda model: bn.fold(model, X),
    "convert, sample": lambda model: bn.convert(model, sample=X),
    "fuse": lambda model: bn.convert(model, sample=X, fuse=True),
    "freeze": lambda model: bn.freeze(model, fold=True, sample=X),
}


@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_a_model_counts_nothing(look):
    model = seen(Counts())
    LOOKS[look](model)
    assert (model.calls.item(), model.number, model.last) == (0, 0, None)
    model(X)
    assert (model.calls.item(), model.number) == (1, 1)


def test_a_forward_that_was_replaced_on_the_model_itself_is_the_one_that_counts():
    model = seen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    model.forward = types.MethodType(lambda self, x: self[1](self[0](x) * 2), model)
    want = model(X)
    for sample in (None, X):
        assert not bn.fold(model, sample).done
        torch.testing.assert_close(model(X), want)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), (2, 4, 4)),
        (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (3, 6)),
    ],
)
def test_a_sample_shows_that_another_axis_is_normalised(model, shape):
    net, x = seen(model()), torch.randn(shape)
    want = net(x)
    assert "another axis" in reasons(bn.fold(net, x))
    assert torch.equal(net(x), want)


@pytest.mark.parametrize(
    "operate",
    [
        lambda model: bn.fold(model),
        lambda model: bn.convert(model, "GroupNorm"),
        lambda model: bn.insert(model, only=lambda path, layer: path == "3"),
    ],
)
def test_undo_follows_a_model_that_was_cast_since(operate):
    model = seen(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
            nn.Conv2d(4, 2, 1),
        )
    )  # fmt: skip
    want = copy.deepcopy(model).double()(X.double())
    report = operate(model)
    model.double()
    report.undo()
    torch.testing.assert_close(model(X.double()), want)


class Wrapped(nn.parallel.DistributedDataParallel):
    """As far as surgery can see one; nothing is distributed."""

    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module

    def forward(self, *args):
        return self.module(*args)


@pytest.mark.parametrize(
    "operate",
    [
        lambda model: bn.freeze(model, affine=True),
        lambda model: bn.convert(model, "GroupNorm"),
        lambda model: bn.fold(model.eval(), X),
        bn.thaw,
    ],
)
def test_what_data_parallel_would_not_notice_is_refused(operate):
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), bn.BatchNorm2d(4))
    if operate is bn.thaw:
        bn.freeze(inner, affine=True)
    model = Wrapped(inner)
    before = str(model), [p.requires_grad for p in model.parameters()]
    with pytest.raises(RuntimeError, match="DistributedDataParallel has wrapped"):
        operate(model)
    assert (str(model), [p.requires_grad for p in model.parameters()]) == before


def test_statistics_may_be_frozen_inside_data_parallel():
    model = Wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), bn.BatchNorm2d(4)))
    assert bn.freeze(model).done
    assert bn.thaw(model).done


INFERENCE = {
    "fold": bn.fold,
    "convert": lambda model: bn.convert(model, "GhostBatchNorm", ghost_batch_size=2),
    "replace": lambda model: bn.convert(model, "GroupNorm"),
    "freeze": lambda model: bn.freeze(model, fold=True, sample=X),
    "insert": lambda model: bn.insert(model, only=lambda path, layer: path == "3"),
}


@pytest.mark.parametrize("operation", INFERENCE)
def test_models_changed_in_inference_mode_can_be_trained(operation):
    model = seen(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
            nn.Conv2d(4, 2, 1),
        )
    )  # fmt: skip
    with torch.inference_mode():
        INFERENCE[operation](model)
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(tensor.is_inference() for tensor in tensors)
    y = model.train()(X)
    y.backward(torch.randn_like(y))


class Exp(nn.Module):
    def forward(self, x):
        return x.exp()


def test_freezing_says_which_parameters_it_does_not_hold():
    layer = bn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(layer, "weight", Exp())
    (change,) = bn.freeze(layer, affine=True).done
    assert change.after == "frozen=stats+bias"
    assert "not weight, which a parametrization computes" in change.reason
