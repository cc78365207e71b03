"""Conventions of other frameworks, against numbers computed by hand."""

import math

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.surgery import (
    CONVENTIONS,
    convert_options,
    convert_state,
    from_framework,
    to_framework,
)

FOREIGN = ["keras", "flax", "onnx"]
# One channel, a batch of 1 and 3: mean 2, variance 1 with n and 2 with n - 1.
BATCH = (1.0, 3.0)


def by_hand(framework, momentum, mean, var):
    """Running statistics after BATCH, by the framework's own rule."""
    rule = CONVENTIONS[framework]
    new = momentum if rule.momentum_weighs == "new" else 1 - momentum
    batch_var = 2.0 if rule.running_var == "unbiased" else 1.0
    return (1 - new) * mean + new * 2.0, (1 - new) * var + new * batch_var


@pytest.mark.parametrize(
    ("framework", "momentum", "mean", "var"),
    [
        # 0 → 0.1·2; 1 → 0.9·1 + 0.1·2
        ("torch", 0.1, 0.2, 1.1),
        # 0 → 0.01·2; 1 → 0.99·1 + 0.01·1
        ("keras", 0.99, 0.02, 1.0),
        ("flax", 0.99, 0.02, 1.0),
        # 0 → 0.1·2; 1 → 0.9·1 + 0.1·1
        ("onnx", 0.9, 0.2, 1.0),
    ],
)
def test_the_table_says_what_each_default_does_to_a_batch(framework, momentum, mean, var):
    assert CONVENTIONS[framework].momentum == momentum
    got = by_hand(framework, momentum, 0.0, 1.0)
    assert got == pytest.approx((mean, var), rel=1e-12)


def test_torchs_row_is_torchs_layer():
    layer = nn.BatchNorm1d(1, dtype=torch.float64)
    assert (layer.momentum, layer.eps) == (CONVENTIONS["torch"].momentum, CONVENTIONS["torch"].eps)
    layer(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
    assert layer.running_mean.item() == pytest.approx(0.2, rel=1e-12)
    assert layer.running_var.item() == pytest.approx(1.1, rel=1e-12)


@pytest.mark.parametrize(
    ("framework", "eps"), [("torch", 1e-5), ("keras", 1e-3), ("flax", 1e-5), ("onnx", 1e-5)]
)
def test_defaults_of_epsilon(framework, eps):
    assert CONVENTIONS[framework].eps == eps


@pytest.mark.parametrize(
    ("options", "source", "target", "want"),
    [
        ({"momentum": 0.1, "eps": 1e-5}, "torch", "keras", {"momentum": 0.9, "epsilon": 1e-5}),
        ({}, "torch", "flax", {"momentum": 0.9, "epsilon": 1e-5}),
        ({}, "keras", "torch", {"momentum": 0.01, "eps": 1e-3}),
        ({}, "flax", "torch", {"momentum": 0.01, "eps": 1e-5}),
        ({}, "onnx", "torch", {"momentum": 0.1, "eps": 1e-5}),
        ({"momentum": 0.9}, "keras", "flax", {"momentum": 0.9, "epsilon": 1e-3}),
        ({"momentum": None}, "torch", "torch", {"momentum": None, "eps": 1e-5}),
    ],
)
def test_options_by_hand(options, source, target, want):
    assert convert_options(options, source, target) == want


def test_a_cumulative_average_has_no_counterpart():
    with pytest.raises(ValueError, match="keras has no cumulative average"):
        convert_options({"momentum": None}, "torch", "keras")


@pytest.mark.parametrize("framework", FOREIGN)
def test_one_step_of_training_moves_the_mean_alike(framework):
    theirs = convert_options({"momentum": 0.3}, "torch", framework)["momentum"]
    assert by_hand("torch", 0.3, 5.0, 1.0)[0] == pytest.approx(
        by_hand(framework, theirs, 5.0, 1.0)[0], rel=1e-12
    )


STATE = {"weight": [2.0], "bias": [1.0], "running_mean": [0.5], "running_var": [4.0]}


def test_names_by_hand():
    keras = convert_state(STATE, "torch", "keras")
    assert {k: v.item() for k, v in keras.items()} == {
        "gamma": 2.0,
        "beta": 1.0,
        "moving_mean": 0.5,
        "moving_variance": 4.0,
    }
    flax = convert_state(STATE, "torch", "flax")
    assert flax == {
        "params": {"scale": torch.tensor([2.0]), "bias": torch.tensor([1.0])},
        "batch_stats": {"mean": torch.tensor([0.5]), "var": torch.tensor([4.0])},
    }


@pytest.mark.parametrize("framework", FOREIGN)
def test_variance_with_a_count_by_hand(framework):
    # 4 with n - 1 = 3 is a sum of squares of 12; over n = 4 that is 3.
    there = convert_state(STATE, "torch", framework, count=4)
    back = convert_state(there, framework, "torch", count=4)
    var = CONVENTIONS[framework].tensors["running_var"].split(".")
    value = there
    for name in var:
        value = value[name]
    assert value.item() == 3.0
    assert back["running_var"].item() == 4.0
    alike = convert_state(there, framework, framework, count=4)
    assert alike == there


@pytest.mark.parametrize("framework", FOREIGN)
def test_without_a_count_inference_stays_the_same(framework):
    layer = bn.BatchNorm2d(1, eps=0.25).double()
    layer.load_state_dict({**layer.state_dict(), **{k: torch.tensor(v) for k, v in STATE.items()}})
    options, state = to_framework(layer, framework)
    # 2·(3 - 0.5)/sqrt(4 + 0.25) + 1
    want = 2.0 * 2.5 / math.sqrt(4.25) + 1.0
    x = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    assert layer.eval()(x).item() == pytest.approx(want, rel=1e-12)
    back = from_framework(options, state, framework, rank=2)
    assert type(back) is bn.BatchNorm2d
    assert back.eval()(x).item() == pytest.approx(want, rel=1e-12)
    assert (back.eps, back.momentum) == (layer.eps, layer.momentum)
    for name, value in layer.state_dict().items():
        if name != "num_batches_tracked":
            assert torch.equal(back.state_dict()[name], value)


@pytest.mark.parametrize("framework", ["keras", "flax"])
@pytest.mark.parametrize("options", [{"affine": False}, {"bias": False}])
def test_missing_parameters_stay_missing(framework, options):
    layer = bn.BatchNorm1d(2, **options)
    foreign = to_framework(layer, framework)
    words = CONVENTIONS[framework].options
    assert foreign.options[words["weight"]] is (layer.weight is not None)
    assert foreign.options[words["bias"]] is (layer.bias is not None)
    back = from_framework(*foreign, framework, rank=1)
    assert (back.weight is None, back.bias is None) == (layer.weight is None, layer.bias is None)


def test_a_shift_without_a_scale_gets_a_fixed_scale():
    state = {"beta": [3.0], "moving_mean": [0.0], "moving_variance": [1.0]}
    layer = from_framework({"scale": False}, state, "keras", rank=1)
    assert layer.weight.tolist() == [1.0]
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad


def test_onnx_has_no_optional_inputs():
    state = to_framework(nn.BatchNorm2d(2, affine=False), "onnx").state
    assert state["scale"].tolist() == [1.0, 1.0]
    assert state["B"].tolist() == [0.0, 0.0]


def test_a_copy_is_given_away():
    layer = bn.BatchNorm1d(2)
    to_framework(layer, "keras").state["gamma"].fill_(7.0)
    assert layer.weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("layer", "got"),
    [
        (lambda: bn.BatchNorm1d(2, activation="relu"), "activation='relu'"),
        (lambda: bn.BatchNorm1d(2, track_running_stats=False), "no running statistics"),
        (lambda: nn.LayerNorm(2), "LayerNorm is not known"),
    ],
)
def test_what_the_others_cannot_do_is_refused(layer, got):
    with pytest.raises(ValueError, match=got):
        to_framework(layer(), "keras")


def test_wrong_words_are_errors():
    with pytest.raises(ValueError, match="unknown framework"):
        convert_state(STATE, "torch", "caffe")
    with pytest.raises(ValueError, match="gamma, beta"):
        convert_state(STATE, "keras", "torch")
    with pytest.raises(ValueError, match="count must be at least 2"):
        convert_state(STATE, "torch", "keras", count=1)
    with pytest.raises(ValueError, match="no moving_variance"):
        from_framework({}, {"moving_mean": [1.0]}, "keras", rank=1)
    with pytest.raises(ValueError, match="rank must be 1, 2 or 3"):
        from_framework({}, {}, "keras", rank=4)
