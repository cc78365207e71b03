"""Samples go through a model without a trace, and differences show."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from batchnorm.surgery._proof import compare, record, widened
from tests.surgery.models import Tangled, assert_same_picture, picture, randomise


def test_recording_leaves_no_trace():
    model = nn.Sequential(randomise(Tangled()), nn.Dropout(0.5)).train()
    model[0].bn.eval()
    x = torch.randn(2, 3, 4, 4)
    before, generator = picture(model), torch.get_rng_state()
    record(model, x, ("eval", "train"))
    assert_same_picture(picture(model), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in model.parameters())


def test_recording_leaves_no_trace_when_the_model_raises():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(4, 1)).train()
    before = picture(model)
    with pytest.raises(RuntimeError):
        record(model, torch.randn(5, 3), ("train",))
    assert_same_picture(picture(model), before)


def test_the_same_model_does_not_deviate():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    proofs = compare(record(model, x, ("eval", "train")), record(model, x, ("eval", "train")))
    assert [p.what for p in proofs] == [
        "outputs, eval",
        "gradients, eval",
        "outputs, train",
        "gradients, train",
    ]
    assert all(p.max_abs == 0 for p in proofs)


@pytest.mark.parametrize("value", [1e-3, math.nan, math.inf])
def test_a_difference_shows_in_outputs_and_in_gradients(value):
    model = nn.Sequential(nn.Linear(3, 4, dtype=torch.float64), nn.Tanh())
    x = torch.randn(5, 3, dtype=torch.float64)
    before = record(model, x)
    with torch.no_grad():
        model[0].weight[1, 2] += value
    outputs, gradients = compare(before, record(model, x))
    if math.isfinite(value):
        assert 0 < outputs.max_abs < 1e-2
        assert 0 < gradients.max_abs < 1e-1
    else:
        assert outputs.max_abs == (math.inf if math.isnan(value) else outputs.max_abs) > 0


def test_equal_infinities_are_no_deviation():
    model = nn.Threshold(0.0, math.inf)
    x = -torch.ones(2, 3)
    proofs = compare(record(model, x), record(model, x))
    assert [proof.max_abs for proof in proofs] == [0, 0]


@pytest.mark.parametrize("pack", [lambda x: x, lambda x: (x,), lambda x: {"input": x}])
def test_samples_are_tensors_tuples_or_dicts(pack):
    model = nn.Linear(3, 2)
    (recording,) = record(model, pack(torch.ones(1, 3)))
    assert torch.equal(recording.outputs["output 0"], model(torch.ones(1, 3)))
    assert set(recording.gradients) == {"weight", "bias", "input 0"}


def test_widened_copies_are_float64_and_apart():
    model = nn.Linear(3, 2)
    twin, sample = widened(model, {"input": torch.ones(1, 3)})
    assert twin.weight.dtype == sample["input"].dtype == torch.float64
    assert model.weight.dtype == torch.float32


def test_a_model_that_cannot_be_copied_has_no_widened_copy():
    model = nn.Linear(3, 2)
    model.cache = model.weight * 2
    assert widened(model, torch.ones(1, 3)) is None


def test_reentrant_checkpointing_is_compared_by_outputs_alone():
    class Checkpointed(nn.Sequential):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=True)

    x = torch.ones(2, 3, requires_grad=True)
    (recording,) = record(Checkpointed(nn.Linear(3, 2)), x)
    assert list(recording.outputs) == ["output 0"]
    assert recording.gradients == {}
