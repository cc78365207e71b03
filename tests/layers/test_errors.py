"""Bad input: the type of error, the rule, what came, and nothing changed."""

import pytest
import torch

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot

X1, X2, X3 = torch.randn(4, 3), torch.randn(4, 3, 5, 5), torch.randn(4, 3, 2, 2, 2)
NAN = float("nan")

# layer, keyword arguments of the call, error, words that must be in the message
CALLS = {
    "too many channels": (bn.BatchNorm2d, {"input": torch.randn(4, 7, 5, 5)}, ValueError, "7 3"),
    "too few channels": (bn.BatchNorm1d, {"input": torch.randn(4, 2)}, ValueError, "2 3"),
    "rank 3 for 2d": (bn.BatchNorm2d, {"input": torch.randn(4, 3, 5)}, ValueError, "4D 3D"),
    "rank 4 for 1d": (bn.BatchNorm1d, {"input": X2}, ValueError, "2D 3D 4D"),
    "rank 4 for 3d": (bn.BatchNorm3d, {"input": X2}, ValueError, "5D 4D"),
    "rank 1": (bn.BatchNorm1d, {"input": torch.randn(3)}, ValueError, "2D 3D 1D"),
    "rank 0": (bn.BatchNorm1d, {"input": torch.tensor(3.0)}, ValueError, "2D 3D 0D"),
    "integers": (bn.BatchNorm1d, {"input": X1.long()}, TypeError, "int64"),
    "booleans": (bn.BatchNorm1d, {"input": X1 > 0}, TypeError, "bool"),
    "complex": (bn.BatchNorm1d, {"input": X1 + 0j}, TypeError, "complex64"),
    "mask of another batch": (
        bn.BatchNorm2d,
        {"input": X2, "mask": torch.ones(5, dtype=torch.bool)},
        ValueError,
        "mask 5 4",
    ),
    "mask of another size": (
        bn.BatchNorm2d,
        {"input": X2, "mask": torch.ones(4, 5, 6, dtype=torch.bool)},
        ValueError,
        "mask 6 5",
    ),
    "mask with channels": (
        bn.BatchNorm2d,
        {"input": X2, "mask": torch.ones(4, 3, 5, 5, dtype=torch.bool)},
        ValueError,
        "mask 4 3 5",
    ),
    "float mask": (bn.BatchNorm2d, {"input": X2, "mask": torch.ones(4)}, TypeError, "mask float32"),
    "integer mask": (
        bn.BatchNorm2d,
        {"input": X2, "mask": torch.ones(4, dtype=torch.int64)},
        TypeError,
        "mask int64",
    ),
    "residual of another shape": (
        bn.BatchNorm2d,
        {"input": X2, "residual": torch.randn(4, 3, 5, 6)},
        ValueError,
        "residual 5 6",
    ),
    "residual that would broadcast": (
        bn.BatchNorm2d,
        {"input": X2, "residual": torch.randn(4, 3, 1, 1)},
        ValueError,
        "residual 1 5",
    ),
    "residual of another dtype": (
        bn.BatchNorm2d,
        {"input": X2, "residual": X2.double()},
        TypeError,
        "residual float64 float32",
    ),
    "residual elsewhere": (
        bn.BatchNorm2d,
        {"input": X2, "residual": X2.to("meta")},
        (ValueError, RuntimeError),
        "residual meta cpu",
    ),
    "mask elsewhere": (
        bn.BatchNorm2d,
        {"input": X2, "mask": torch.ones(4, dtype=torch.bool, device="meta")},
        (ValueError, RuntimeError),
        "mask meta cpu",
    ),
    "input elsewhere": (
        bn.BatchNorm2d,
        {"input": X2.to("meta")},
        (ValueError, RuntimeError),
        "meta cpu",
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_bad_call_says_what_came_and_changes_nothing(name, training):
    kind, inputs, error, words = CALLS[name]
    layer = kind(3).train(training)
    before = snapshot(layer)
    with pytest.raises(error) as caught:
        layer(**inputs)
    text = str(caught.value)
    for word in words.split():
        assert word in text, f"{word!r} is not in {text!r}"
    assert kind.__name__ in text
    assert "Got" in text or "got" in text
    assert_unchanged(layer, before)


@pytest.mark.parametrize("bad", [-1e-5, NAN, -float("inf")])
@pytest.mark.parametrize("kind", [bn.BatchNorm1d, bn.BatchNorm2d, bn.BatchNorm3d])
def test_bad_eps_is_refused_at_construction(kind, bad):
    with pytest.raises(ValueError, match=rf"eps(?s:.)*{bad}"):
        kind(3, eps=bad)


@pytest.mark.parametrize("bad", [-0.1, NAN])
@pytest.mark.parametrize("kind", [bn.BatchNorm1d, bn.BatchNorm2d, bn.BatchNorm3d])
def test_bad_momentum_is_refused_at_construction(kind, bad):
    with pytest.raises(ValueError, match=rf"momentum(?s:.)*{bad}"):
        kind(3, momentum=bad)


def test_unknown_activation_names_the_known_ones():
    with pytest.raises(ValueError, match="mish") as caught:
        bn.BatchNorm2d(3, activation="mish")
    assert "hardswish" in str(caught.value)


def test_slope_without_use_is_refused():
    with pytest.raises(ValueError, match="slope"):
        bn.BatchNorm2d(3, activation="relu", slope=0.3)


F = bn.functional.batch_norm
W3 = torch.ones(3)
FUNCTIONAL = {
    "weight of another size": ({"input": X1, "weight": torch.ones(4)}, ValueError, "weight 4 3"),
    "weight of rank 2": ({"input": X1, "weight": torch.ones(3, 1)}, ValueError, "weight 3 1"),
    "integer weight": ({"input": X1, "weight": torch.ones(3).long()}, TypeError, "weight int64"),
    "bias of another size": ({"input": X1, "bias": torch.ones(2)}, ValueError, "bias 2 3"),
    "integer input": ({"input": X1.int()}, TypeError, "int32"),
    "rank 1": ({"input": torch.randn(3)}, ValueError, "3"),
    "negative eps": ({"input": X1, "eps": -1.0}, ValueError, "eps -1.0"),
    "nan eps": ({"input": X1, "eps": NAN}, ValueError, "eps nan"),
    "unknown activation": ({"input": X1, "activation": "softplus"}, ValueError, "softplus"),
    "mask of another batch": (
        {"input": X1, "mask": torch.ones(5, dtype=torch.bool)},
        ValueError,
        "mask 5 4",
    ),
    "float mask": ({"input": X1, "mask": torch.ones(4)}, TypeError, "mask float32"),
    "residual of another shape": ({"input": X1, "residual": X2}, ValueError, "residual"),
    "residual of another dtype": (
        {"input": X1, "residual": X1.half()},
        TypeError,
        "residual float16 float32",
    ),
    "weight elsewhere": (
        {"input": X1, "weight": W3.to("meta")},
        (ValueError, RuntimeError),
        "weight meta cpu",
    ),
    "statistics of other channels": (
        {"input": X1, "stats": bn.BatchStats(torch.tensor(1), torch.zeros(5), torch.ones(5))},
        ValueError,
        "5 3",
    ),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_bad_call_of_the_function(name):
    options, error, words = FUNCTIONAL[name]
    with pytest.raises(error) as caught:
        F(**options)
    text = str(caught.value)
    for word in ["batch_norm", *words.split()]:
        assert word in text, f"{word!r} is not in {text!r}"


def test_an_error_leaves_an_in_place_input_alone():
    x = X2.clone()
    with pytest.raises(ValueError, match="mask"):
        bn.BatchNorm2d(3, inplace=True).eval()(x, mask=torch.ones(9, dtype=torch.bool))
    assert torch.equal(x, X2)


@pytest.mark.timeout(60, method="thread")
def test_empty_channels_as_torch():
    y = bn.BatchNorm1d(0)(torch.randn(4, 0))
    assert y.shape == (4, 0)
