"""Folding: the same function afterwards, in every layer that can take a batch norm in."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import batchnorm as bn
from batchnorm.surgery import _fold_into
from batchnorm.surgery._fold import fold
from tests.activations import ACTS
from tests.surgery.folding import EXACT, folded_error, seen

CONVS = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "no bias": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "multiplied depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, dilation=2),
    "pointwise": lambda: nn.Conv2d(4, 6, 1),
    "reflected": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="circular"),
    "transposed pointwise": lambda: nn.ConvTranspose2d(4, 6, 1, groups=2),
}
PADDED = {
    "zeros": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "same": lambda: nn.Conv2d(4, 6, 3, padding="same"),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3),
    "transposed grouped": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    "transposed padded": lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, bias=False),
}
BY_RANK = [
    (nn.Conv1d, nn.BatchNorm1d, 1),
    (nn.Conv2d, nn.BatchNorm2d, 2),
    (nn.Conv3d, nn.BatchNorm3d, 3),
    (nn.ConvTranspose1d, bn.BatchNorm1d, 1),
    (nn.ConvTranspose2d, bn.BatchNorm2d, 2),
    (nn.ConvTranspose3d, bn.BatchNorm3d, 3),
]


def norms_left(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def reason(report, path):
    (change,) = [change for change in report.skipped if change.path == path]
    return change.reason


@pytest.mark.parametrize("name", [*CONVS, *PADDED])
def test_into_a_convolution_before(name):
    conv = {**CONVS, **PADDED}[name]()
    model = seen(nn.Sequential(conv, bn.BatchNorm2d(conv.out_channels)))

    error, _ = folded_error(model, torch.randn(2, 4, 9, 9))

    assert error < EXACT
    assert not norms_left(model)
    assert type(model[0]) is type(conv)


@pytest.mark.parametrize("name", CONVS)
def test_into_a_convolution_behind(name):
    model = seen(nn.Sequential(bn.BatchNorm2d(4), CONVS[name]()))

    error, _ = folded_error(model, torch.randn(2, 4, 9, 9))

    assert error < EXACT
    assert not norms_left(model)


@pytest.mark.parametrize("name", PADDED)
def test_not_into_a_convolution_behind_whose_borders_would_change(name):
    model = seen(nn.Sequential(bn.BatchNorm2d(4), PADDED[name]()))

    error, report = folded_error(model, torch.randn(2, 4, 9, 9))

    assert error == 0
    assert "zero padding" in reason(report, "0") or "same taps" in reason(report, "0")


@pytest.mark.parametrize("name", PADDED)
def test_a_norm_without_shift_goes_into_any_convolution_behind(name):
    norm = bn.BatchNorm2d(4)
    model = seen(nn.Sequential(norm, PADDED[name]()))
    norm.running_mean.zero_()
    nn.init.zeros_(norm.bias)

    error, _ = folded_error(model, torch.randn(2, 4, 9, 9))

    assert error < EXACT
    assert not norms_left(model)


@pytest.mark.parametrize(("conv", "norm", "rank"), BY_RANK)
def test_every_rank(conv, norm, rank):
    model = seen(nn.Sequential(conv(4, 6, 3, groups=2), norm(6), nn.ReLU(), norm(6), conv(6, 2, 1)))

    error, _ = folded_error(model, torch.randn(2, 4, *[7] * rank))

    assert error < EXACT
    assert not norms_left(model)


def test_linear_before_and_behind():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 6, bias=False), bn.BatchNorm1d(6))

    error, _ = folded_error(seen(model), torch.randn(5, 4))

    assert error < EXACT
    assert not norms_left(model)


def test_channels_of_a_linear_layer_that_is_not_what_is_normalised():
    # (N, L, C) with L = C: batch norm works on L. Only a sample can tell.
    model = seen(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    modules = list(model)

    assert "normalises another axis" in reason(fold(model, torch.randn(3, 4, 4)), "1")
    assert all(a is b for a, b in zip(model, modules, strict=True))

    assert "taken to see (N, C)" in str(fold(model))


def test_sequence_batch_norm_goes_where_its_channels_are():
    layer = bn.layers.SequenceBatchNorm
    last, second = layer(6, channel_axis=-1), layer(6, channel_axis=1)
    rows = seen(nn.Sequential(nn.Linear(4, 6), last))
    planes = seen(nn.Sequential(nn.Conv1d(4, 6, 1), second))

    errors = [folded_error(rows, torch.randn(3, 6, 4)), folded_error(planes, torch.randn(3, 4, 6))]

    assert max(error for error, _ in errors) < EXACT
    assert not norms_left(rows)
    assert not norms_left(planes)
    mixed = seen(nn.Sequential(nn.Linear(6, 6), layer(6, channel_axis=1)))
    assert "other channels" in reason(fold(mixed), "1")


def test_2d_norm_does_not_go_into_a_linear_layer():
    # Linear works on the last axis; here it happens to be as long as there are channels.
    model = seen(nn.Sequential(nn.Linear(4, 4), bn.BatchNorm2d(4)))

    report = fold(model, torch.randn(2, 4, 4, 4))

    assert "other channels" in reason(report, "1")


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(6, affine=False),
        nn.BatchNorm2d(6, eps=0.1),
        nn.SyncBatchNorm(6),
        bn.BatchNorm2d(6, bias=False),
        bn.layers.GhostBatchNorm2d(6, ghost_batch_size=2),
        bn.layers.SyncBatchNorm(6),
        bn.layers.WhitenedBatchNorm2d(6, group_size=3),
        bn.layers.WhitenedBatchNorm2d(6, affine=False, method="newton"),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_every_kind_of_norm(norm):
    norm = copy.deepcopy(norm)
    before = seen(nn.Sequential(nn.Conv2d(4, 6, 3), norm))
    behind = copy.deepcopy(nn.Sequential(norm, nn.Conv2d(6, 4, 3)))
    x, y = torch.randn(2, 4, 5, 5), torch.randn(2, 6, 5, 5)

    errors = [folded_error(before, x)[0], folded_error(behind, y)[0]]

    assert max(errors) < EXACT
    assert not norms_left(before)
    assert not norms_left(behind)


@pytest.mark.parametrize("group_size", [3, 6])
def test_whitened_groups_and_groups_of_the_convolution(group_size):
    norm = bn.layers.WhitenedBatchNorm2d(6, group_size=group_size)
    model = seen(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), norm, nn.Conv2d(6, 4, 3, groups=2)))

    error, _ = folded_error(model, torch.randn(2, 4, 7, 7))

    assert error < EXACT
    assert bool(norms_left(model)) == (group_size == 6)


def test_whitened_groups_into_a_transposed_convolution():
    norm = bn.layers.WhitenedBatchNorm2d(6, group_size=3)
    model = seen(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), norm))

    error, _ = folded_error(model, torch.randn(2, 4, 7, 7))

    assert error < EXACT
    assert not norms_left(model)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("extras", ["none", "residual", "mask"])
def test_what_was_fused_into_the_norm_stays(act, extras):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), bn.BatchNorm2d(4, activation=act)

        def forward(self, x):
            y = self.conv(x)
            if extras == "residual":
                return self.norm(y, residual=x)
            if extras == "mask":
                return self.norm(y, None, x[:, 0] > 0)
            return self.norm(y)

    model = seen(Net())
    error, _ = folded_error(model, torch.randn(2, 4, 5, 5))

    assert error < EXACT
    assert not norms_left(model)
    assert type(model.norm).__module__.startswith("torch.nn") == (extras == "none")


def test_chains_fold_into_one_layer():
    norms = [nn.BatchNorm2d(4), nn.Dropout(0.3), bn.BatchNorm2d(4), nn.Identity()]
    model = seen(nn.Sequential(nn.Conv2d(4, 4, 1), *norms, bn.BatchNorm2d(4, activation="silu")))

    error, _ = folded_error(model, torch.randn(2, 4, 5, 5))

    assert error < EXACT
    assert not norms_left(model)


def test_norms_on_both_sides_of_one_convolution():
    model = seen(nn.Sequential(bn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), bn.BatchNorm2d(6)))

    error, _ = folded_error(model, torch.randn(2, 4, 5, 5))

    assert error < EXACT
    assert not norms_left(model)


def test_a_pair_that_is_shared_as_a_pair_folds():
    pair = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model = seen(nn.Sequential(pair, nn.ReLU(), pair))

    error, report = folded_error(model, torch.randn(3, 4))

    assert error < EXACT
    assert not norms_left(model)
    assert model[0] is model[2]
    assert {change.path for change in report.done} == {"0.0, 2.0", "0.1, 2.1"}


def test_a_layer_shared_by_two_norms_stays():
    # Heads of a detector: one convolution for all levels, a norm for each.
    conv = nn.Linear(4, 4)
    model = seen(nn.Sequential(conv, nn.BatchNorm1d(4), conv, nn.BatchNorm1d(4)))
    x = torch.randn(3, 4)
    before = model(x)

    report = fold(model, x)

    assert all("shared" in change.reason for change in report.skipped)
    assert torch.equal(model(x), before)


class Readers(nn.Module):
    """The layer's output is used twice, or its weight is."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.fc(x)
        if self.how == "output":
            return self.norm(y) + y
        if self.how == "inplace":
            return self.norm(y.relu_()) + y
        return F.linear(self.norm(y), self.fc.weight)


@pytest.mark.parametrize(
    ("how", "text"),
    [("output", "also read by others"), ("inplace", "fed by relu"), ("weight", "used elsewhere")],
)
def test_a_layer_that_others_read_stays(how, text):
    model = seen(Readers(how))
    x = torch.randn(3, 4)
    before = model(x)

    report = fold(model, x)

    assert text in reason(report, "norm")
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_hook_of_a_container_may_look_between_the_two_as_well(place):
    # A feature extractor: what it stores must stay what it was.
    linear, norm, stored = nn.Linear(4, 4), nn.BatchNorm1d(4), []
    parts = [linear, norm] if place == "before" else [norm, linear]
    model = seen(nn.Sequential(nn.Sequential(nn.Identity(), parts[0]), parts[1]))
    model[0].register_forward_hook(lambda module, args, output: stored.append(output))

    report = fold(model)

    assert "hook between" in report.skipped[0].reason


@pytest.mark.parametrize("place", ["conv", "norm"])
def test_hooks_between_the_two_keep_them_apart(place):
    model = seen(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    if place == "conv":
        model[0].register_forward_hook(lambda module, args, output: output * 2)
    else:
        model[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    x = torch.randn(3, 4)
    before = model(x)

    report = fold(model, x)

    assert "hook" in reason(report, "1")
    assert torch.equal(model(x), before)


def test_hooks_around_the_two_are_kept():
    model = seen(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    model[0].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    handle = model[1].register_forward_hook(lambda module, args, output: output + 1)
    x = torch.randn(3, 4)
    before = model(x)

    fold(model, x)

    torch.testing.assert_close(model(x), before)
    handle.remove()
    torch.testing.assert_close(model(x), before - 1)


def test_a_subclass_stays_because_it_may_do_more():
    class Twice(nn.BatchNorm1d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = seen(nn.Sequential(nn.Linear(4, 4), Twice(4), Scaled(4, 4), nn.BatchNorm1d(4)))
    model = model.append(nn.ReLU())

    report = fold(model, torch.randn(3, 4))

    assert "Twice has a forward of its own" in reason(report, "1")
    assert "Scaled" in reason(report, "3")


def test_weight_norm_is_made_plain():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3))
    model = seen(nn.Sequential(conv, nn.BatchNorm2d(6)))

    error, report = folded_error(model, torch.randn(2, 4, 5, 5))

    assert error < EXACT
    assert type(model[0]) is nn.Conv2d
    report.undo()
    assert model[0] is conv


def test_tied_weights_elsewhere_keep_their_values():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = seen(nn.Sequential(first, nn.BatchNorm1d(4), nn.ReLU(), second))
    weight = second.weight.detach().clone()

    error, _ = folded_error(model, torch.randn(3, 4))

    assert error < EXACT
    assert torch.equal(model[3].weight, weight.double())


def test_layers_in_training_mode_stay():
    model = seen(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)))
    model.append(nn.BatchNorm1d(4))

    report = fold(model)

    assert "in training mode" in reason(report, "3")
    assert type(model[1]) is nn.Identity


def test_a_model_in_training_mode_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    with pytest.raises(ValueError, match=r"1 in training mode. Call model.eval\(\)"):
        fold(model)


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(ValueError, match="Linear without one"):
        fold(nn.Linear(3, 3))


def test_no_statistics_cannot_be_folded():
    model = seen(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)))

    report = fold(model)

    assert "no running statistics" in reason(report, "1")
    with pytest.raises(RuntimeError):
        report.undo()


def test_what_feeds_the_norm_is_named():
    class Cat(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(3, 2), nn.Linear(3, 2), nn.BatchNorm1d(4)
            self.unused = nn.BatchNorm1d(4)

        def forward(self, x):
            return self.norm(torch.cat([self.a(x), self.b(x)], 1))

    report = fold(seen(Cat()), torch.randn(2, 3))

    assert reason(report, "norm") == "fed by cat, not by a convolution or linear layer"
    assert reason(report, "unused") == "it is not called"


def test_undo_brings_the_same_objects_back():
    model = seen(
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), bn.BatchNorm2d(4, activation="relu"))
    )
    modules, state = list(model), copy.deepcopy(model.state_dict())

    report = fold(model, torch.randn(2, 3, 5, 5))
    assert not any(new is old for new, old in zip(model, modules, strict=True))
    report.undo()

    assert all(new is old for new, old in zip(model, modules, strict=True))
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("widen", [True, False])
def test_a_wrong_fold_is_refused_and_nothing_changed(monkeypatch, widen):
    def wrong(self, affine):
        return _fold_into.Kernel(self.layer, self.weight, self.bias + 0.01)

    class Narrow(nn.Sequential):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    model = seen((nn.Sequential if widen else Narrow)(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    modules = list(model)
    monkeypatch.setattr(_fold_into.Kernel, "then", wrong)

    with pytest.raises(RuntimeError, match="must stay the same.*model is as it was"):
        fold(model, torch.randn(3, 4))

    assert all(new is old for new, old in zip(model, modules, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_stay_narrow(dtype):
    model = seen(nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), bn.BatchNorm2d(6))).to(dtype)
    x = torch.randn(2, 4, 5, 5, dtype=dtype)

    report = fold(model, x)

    assert model[0].weight.dtype is model[0].bias.dtype is dtype
    # The two roundings that are saved are larger than the one of the new weight.
    assert report.proofs[0].max_rel < 8 * torch.finfo(dtype).eps


def test_layout_and_requires_grad_stay():
    conv = nn.Conv2d(4, 6, 3).requires_grad_(False).to(memory_format=torch.channels_last)
    model = seen(nn.Sequential(conv, bn.BatchNorm2d(6)))

    fold(model)

    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model[0].weight.requires_grad
    assert not model[0].bias.requires_grad
    assert not model[0].training


def test_frozen_statistics_of_other_packages_fold():
    class FrozenBatchNorm2d(nn.Module):
        """As torchvision's and detectron2's."""

        def __init__(self, c):
            super().__init__()
            self.eps = 1e-5
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.rand(c) + 0.5)

        def forward(self, x):
            w, b, m, v = (t.view(1, -1, 1, 1) for t in self.buffers())
            return (x - m) * (v + self.eps).rsqrt() * w + b

    class Net(nn.Sequential):
        pass

    model = Net(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4))
    x = torch.randn(2, 3, 5, 5)
    before = model(x)

    fold(model)

    torch.testing.assert_close(model(x), before)
    assert type(model[1]) is nn.Identity


def test_models_that_cannot_be_traced_fold_by_parts_or_by_a_sample():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
            self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            y = self.norm(self.fc(self.block(x)))
            return y if y.sum() > 0 else -y

    one, x = seen(Branching()), torch.randn(3, 4)
    two = copy.deepcopy(one)
    before = one(x)

    parts, run = fold(one), fold(two, x)

    assert "part of the model" in parts.done[1].reason
    assert "a sample may help" in reason(parts, "norm")
    assert "run of the sample" in run.done[1].reason
    assert not run.skipped
    torch.testing.assert_close(one(x), before)
    torch.testing.assert_close(two(x), before)
