"""Every kind to every kind: the same function, or a reason; nothing lost on the way."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import batchnorm as bn
from batchnorm.surgery import convert, freeze
from tests.surgery.models import (
    Block,
    Tangled,
    assert_same_optimizer,
    assert_same_picture,
    optimizer_picture,
    picture,
    randomise,
)
from tests.surgery.test_swap import stepped
from tests.tolerance import ulp

RANKS = {1: (6, 4, 5), 2: (6, 4, 3, 2), 3: (4, 4, 2, 3, 2)}


def plain(norm=nn.BatchNorm2d, **options):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4, **options), nn.ReLU(), Block(4, 4))
    return randomise(model)


def bits(state):
    return {name: value.clone() for name, value in state.items()}


def assert_same_bits(state, before):
    assert list(state) == list(before)
    for name, value in before.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_ours_computes_what_torchs_did(rank, mode):
    layer = randomise(getattr(nn, f"BatchNorm{rank}d")(4, eps=1e-3, momentum=0.3)).train(mode)
    twin = copy.deepcopy(layer)
    x = torch.randn(RANKS[rank])
    new = convert(layer).model
    assert type(new) is getattr(bn, f"BatchNorm{rank}d")
    got, want = new(x), twin(x)
    assert (got - want).abs().max() <= 40 * ulp(torch.float32) * want.abs().max()
    torch.testing.assert_close(new.running_var, twin.running_var)
    assert new.training is mode


def test_proof_covers_outputs_and_gradients_of_both_modes():
    report = convert(plain(), sample=torch.randn(6, 3, 8, 8))
    assert [proof.what for proof in report.proofs[:4]] == [
        "outputs, eval",
        "gradients, eval",
        "outputs, train",
        "gradients, train",
    ]
    assert {proof.dtype for proof in report.proofs} == {"float32", "float64"}
    wide = [proof for proof in report.proofs if proof.dtype == "float64"]
    assert all(0 < proof.max_rel < 1e-10 for proof in wide)


def test_converting_and_back_gives_keys_and_bits_back():
    model = plain()
    before, keys = bits(model.state_dict()), model.state_dict()._metadata
    convert(model, "BatchNorm")
    assert_same_bits(model.state_dict(), before)
    convert(model, "torch.BatchNorm")
    assert_same_bits(model.state_dict(), before)
    assert model.state_dict()._metadata == keys
    assert type(model[1]) is nn.BatchNorm2d


def test_undo_is_exact():
    model = plain()
    optimizer = stepped(model)
    before, before_optimizer = picture(model), optimizer_picture(optimizer)
    report = convert(model, "GroupNorm", optimizer=optimizer)
    assert type(model[1]) is nn.GroupNorm
    report.undo()
    assert_same_picture(picture(model), before)
    assert_same_optimizer(optimizer_picture(optimizer), before_optimizer)


def test_parameters_stay_the_same_objects_so_any_optimizer_stays_valid():
    model = plain()
    before = [id(p) for p in model.parameters()]
    convert(model)
    assert [id(p) for p in model.parameters()] == before


def test_a_shared_layer_is_exchanged_once_and_everywhere():
    model = randomise(Tangled())
    x = torch.randn(2, 3, 4, 4)
    want = copy.deepcopy(model).eval()(x)
    report = convert(model, sample=x)
    assert type(model.bn) is bn.BatchNorm2d
    assert model.bn is model.nested["again"][0] is model.plain[0] is model.alias
    assert [change.path for change in report.done] == ["bn, nested.again.0"]
    assert (model.eval()(x) - want).abs().max() <= 100 * ulp(torch.float32) * want.abs().max()


@pytest.mark.parametrize(
    "options",
    [
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"momentum": None},
        {"dtype": torch.float64},
        {"eps": 1e-3, "momentum": 0.01},
    ],
    ids=str,
)
@pytest.mark.parametrize("back", [False, True])
def test_options_and_missing_tensors_stay(options, back):
    layer = nn.BatchNorm2d(4, **options)
    model = nn.Sequential(layer)
    convert(model)
    if back:
        convert(model, "torch.BatchNorm")
    new = model[0]
    for name in ("eps", "momentum", "affine", "track_running_stats", "num_features"):
        assert getattr(new, name) == getattr(layer, name)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        assert getattr(new, name) is getattr(layer, name), name


def test_statistics_that_a_user_took_away_stay_away():
    layer = nn.BatchNorm2d(4)
    layer.running_mean = layer.running_var = None
    x = torch.randn(2, 4, 3, 3)
    model = nn.Sequential(layer).eval()
    want = model(x)
    convert(model, sample=x)
    assert model[0].running_mean is None
    torch.testing.assert_close(model(x), want)


def test_half_precision_statistics_become_float32():
    model = nn.Sequential(nn.BatchNorm2d(4)).half()
    convert(model)
    assert model[0].weight.dtype == torch.float16
    assert model[0].running_mean.dtype == torch.float32
    convert(model, "torch.BatchNorm")
    assert model[0].running_mean.dtype == torch.float16


def test_frozen_parameters_modes_hooks_and_tags_stay():
    model, seen = plain(), []
    model[1].weight.requires_grad_(False)
    model[1].eval()
    model[1].tag = "stem"
    handle = model[1].register_forward_hook(lambda module, args, out: seen.append(type(module)))
    convert(model)
    assert not model[1].weight.requires_grad
    assert model[1].bias.requires_grad
    assert not model[1].training
    assert model[0].training
    assert model[1].tag == "stem"
    model(torch.randn(2, 3, 8, 8))
    handle.remove()
    model(torch.randn(2, 3, 8, 8))
    assert seen == [bn.BatchNorm2d]


class Counting(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * 2


def refused(make):
    model = nn.Sequential(make(), nn.BatchNorm2d(4))
    before = type(model[0])
    report = convert(model)
    assert type(model[0]) is before
    assert type(model[1]) is bn.BatchNorm2d
    (change,) = report.skipped
    assert change.path == "0"
    return change.reason


def test_an_unknown_subclass_is_refused_and_named():
    reason = refused(lambda: Counting(4))
    assert "Counting is not known: it may do more than batch norm" in reason


def test_a_parametrized_layer_is_refused():
    class Positive(nn.Module):
        def forward(self, x):
            return x.abs()

    def make():
        layer = nn.BatchNorm2d(4)
        parametrize.register_parametrization(layer, "weight", Positive())
        return layer

    assert "parametrizations" in refused(make)


def test_a_pruned_layer_is_refused():
    assert "bias_orig" in refused(lambda: prune.random_unstructured(nn.BatchNorm2d(4), "bias", 1))


def test_a_lazy_layer_is_refused():
    assert "run a batch" in refused(nn.LazyBatchNorm2d)


def test_a_patched_forward_is_refused():
    def make():
        layer = nn.BatchNorm2d(4)
        layer.forward = lambda x: x
        return layer

    assert "forward was replaced" in refused(make)


def test_a_layer_in_a_tuple_is_refused():
    model = nn.Sequential(nn.BatchNorm2d(4))
    model.pair = (model[0], 1)
    assert "pair holds it" in convert(model).skipped[0].reason


def test_layers_between_micro_batches_are_refused():
    model = nn.Sequential(bn.BatchNorm2d(4))
    with bn.accumulate(model):
        assert "accumulate()" in convert(model, "torch.BatchNorm").skipped[0].reason
    assert type(model[0]) is bn.BatchNorm2d


def test_what_torchs_layer_cannot_do_is_not_lost_silently():
    model = nn.Sequential(bn.BatchNorm2d(4, activation="relu"), bn.BatchNorm2d(4))
    bn.set_updates(model[1], False)
    reasons = [change.reason for change in convert(model, "torch.BatchNorm").skipped]
    assert reasons[0] == "its activation 'relu' would be lost"
    assert "updates are switched off" in reasons[1]


def test_frozen_layers_stay_frozen_or_stay():
    model = nn.Sequential(bn.BatchNorm2d(4))
    freeze(model, affine=True)
    assert "thaw it first" in convert(model, "torch.BatchNorm").skipped[0].reason
    convert(model, "GhostBatchNorm", ghost_batch_size=2)
    assert set(model[0].frozen) == {"stats", "weight", "bias"}
    before = model[0].running_mean.clone()
    model.train()(torch.randn(4, 4, 3, 3))
    assert torch.equal(model[0].running_mean, before)


@pytest.mark.parametrize(
    ("to", "made"),
    [("GroupNorm", nn.GroupNorm), ("LayerNorm", nn.GroupNorm), ("InstanceNorm", nn.InstanceNorm2d)],
)
def test_other_norms_take_over_weight_and_bias(to, made):
    model = nn.Sequential(randomise(nn.BatchNorm2d(48)))
    weight = model[0].weight
    report = convert(model, to, sample=torch.randn(2, 48, 4, 4))
    assert type(model[0]) is made
    assert model[0].weight is weight
    assert report.proofs[0].max_abs > 0
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    if made is nn.GroupNorm:
        assert model[0].num_groups == (16 if to == "GroupNorm" else 1)


def test_groups_follow_the_rule_that_is_asked_for():
    model = nn.Sequential(nn.BatchNorm2d(12), nn.BatchNorm2d(10))
    report = convert(model, "GroupNorm", num_groups=4)
    assert model[0].num_groups == 4
    assert report.skipped[0].reason == "10 channels do not make 4 equal groups"


def test_identity_keeps_the_activation():
    model = nn.Sequential(nn.BatchNorm2d(4), bn.BatchNorm2d(4, activation="elu", slope=0.5))
    weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    convert(model, "Identity", optimizer=optimizer)
    assert type(model[0]) is nn.Identity
    assert type(model[1]) is nn.ELU
    assert model[1].alpha == 0.5
    assert all(p is not weight for p in optimizer.param_groups[0]["params"])


def test_synchronised_layers_need_a_sample_to_know_their_rank():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4))
    report = convert(model)
    assert "pass sample" in report.skipped[0].reason
    convert(model, sample=torch.randn(2, 3, 4, 4))
    assert type(model[1]) is bn.BatchNorm2d


def test_to_and_from_torchs_synchronised_layer():
    model, group = plain(), object()
    before = bits(model.state_dict())
    convert(model, "torch.SyncBatchNorm", process_group=group)
    assert type(model[1]) is nn.SyncBatchNorm
    assert model[1].process_group is group
    convert(model, "torch.BatchNorm", sample=torch.randn(2, 3, 8, 8))
    assert type(model[1]) is nn.BatchNorm2d
    assert_same_bits(model.state_dict(), before)


def test_a_function_may_decide_layer_by_layer():
    model = nn.Sequential(Counting(4), nn.BatchNorm2d(4))
    report = convert(model, lambda layer: nn.Identity() if type(layer) is Counting else None)
    assert type(model[0]) is nn.Identity
    assert type(model[1]) is nn.BatchNorm2d
    assert report.skipped[0].reason == "left by the function"


def test_only_chooses_by_path_and_layer():
    model = plain()
    report = convert(model, only=lambda path, layer: path.startswith("3."))
    assert type(model[1]) is nn.BatchNorm2d
    assert type(model[3].bn) is bn.BatchNorm2d
    assert [change.reason for change in report.skipped] == ["not chosen by only"]


def test_a_model_that_is_converted_already_says_so():
    report = convert(nn.Sequential(bn.BatchNorm2d(4)))
    assert not report.done
    assert report.skipped[0].reason == "it is one already"


def test_a_model_without_batch_norm_is_an_error():
    with pytest.raises(ValueError, match="must have batch norm layers"):
        convert(nn.Linear(3, 4))


def test_an_unknown_target_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="unknown target.*GroupNorm"):
        convert(plain(), "GruopNorm")


def test_an_unknown_option_is_an_error_and_changes_nothing():
    model = plain()
    before = picture(model)
    with pytest.raises(TypeError, match="BatchNorm has no such option. Got ghost_size"):
        convert(model, ghost_size=3)
    assert_same_picture(picture(model), before)


def test_a_function_that_is_not_the_same_is_taken_back(monkeypatch):
    model = plain()
    optimizer = stepped(model)
    before, before_optimizer = picture(model), optimizer_picture(optimizer)
    monkeypatch.setattr("batchnorm.surgery._targets._transplant", lambda source, new: None)
    with pytest.raises(RuntimeError, match="function must stay the same"):
        convert(model, optimizer=optimizer, sample=torch.randn(4, 3, 8, 8))
    assert_same_picture(picture(model), before)
    assert_same_optimizer(optimizer_picture(optimizer), before_optimizer)


def test_a_sample_that_does_not_fit_leaves_the_model_as_it_was():
    model = plain()
    before = picture(model)
    with pytest.raises(RuntimeError):
        convert(model, sample=torch.randn(4, 7, 8, 8))
    assert_same_picture(picture(model), before)


def test_training_goes_on_with_the_optimizers_state():
    torch.manual_seed(3)
    model = plain().double()
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (model, twin)]
    x, target = torch.randn(6, 3, 8, 8).double(), torch.randn(6, 4, 6, 6).double()
    for step in range(6):
        if step == 3:
            convert(model, optimizer=optimizers[0])
        for net, optimizer in zip((model, twin), optimizers, strict=True):
            optimizer.zero_grad()
            (net(x) - target).square().mean().backward()
            optimizer.step()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, msg=name)
