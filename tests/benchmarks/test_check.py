"""The equality check: right sides pass, each kind of wrong one is refused before it is timed."""

import pytest
import torch

from benchmarks import contenders, memory, ops
from benchmarks.cases import FORMS, SHAPES, Case, cases, make_tensors
from benchmarks.check import Reference, limits
from benchmarks.context import Context

SMALL = (4, 3, 5, 5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_our_layer_passes(form, dtype, layout):
    case = Case(SMALL, layout, dtype, form)
    tensors = make_tensors(case)
    reference = Reference(case, tensors)
    found = reference.errors(contenders.ours(case, tensors), tensors.grad)
    assert reference.broken(found) == ""
    expected = {"output", "grad_input", "grad_weight", "grad_bias", "running_mean", "running_var"}
    assert set(found) - {"grad_residual"} == expected
    assert ("grad_residual" in found) == (form == "residual_relu")


def spoil(function):
    return {
        "output": lambda x: function(x) * 1.001,
        "gradient": lambda x: function(x.detach() + (x - x.detach()) * 1.001),
        "nan": lambda x: function(x) + torch.nan,
    }


@pytest.mark.parametrize("what", ["output", "gradient", "nan"])
def test_wrong_side_is_named(what):
    case = Case(SMALL, "contiguous", "float32", "plain")
    tensors = make_tensors(case)
    reference = Reference(case, tensors)
    side = contenders.ours(case, tensors)
    side.function = spoil(side.function)[what]
    reason = reference.broken(reference.errors(side, tensors.grad))
    assert "grad_input" in reason or "output" in reason


def test_side_that_forgets_its_running_statistics_is_named():
    case = Case(SMALL, "contiguous", "float32", "plain")
    tensors = make_tensors(case)
    reference = Reference(case, tensors)
    side = contenders.ours(case, tensors)
    side.layer.momentum = 0.2
    reason = reference.broken(reference.errors(side, tensors.grad))
    assert "running_mean" in reason
    assert "running_var" in reason


def test_wrong_row_is_not_timed(monkeypatch):
    case = Case(SMALL, "contiguous", "float32", "relu")
    true_side = contenders.ours

    def wrong(case, tensors):
        side = true_side(case, tensors)
        function = side.function
        side.function = lambda x: function(x) * 1.01
        return side

    def refuse(*arguments, **options):
        raise AssertionError("a wrong row was timed")

    monkeypatch.setattr(contenders, "ours", wrong)
    monkeypatch.setattr(ops, "measure", refuse)
    row = ops._row(case, Context(threads=1))
    assert row["status"] == "wrong"
    assert "output" in row["reason"]
    assert "ms" not in row


def test_limit_is_twice_the_error_of_torch_and_a_floor():
    case = Case((64, 4), "contiguous", "float32", "plain")
    eps = torch.finfo(torch.float32).eps
    found = limits(case, {"output": 1e-6, "grad_weight": 0.0})
    assert found["output"] == pytest.approx(2e-6 + 8 * eps)
    assert found["grad_weight"] == pytest.approx(64 * eps)


def test_cotangent_is_zero_only_where_rounding_decides_the_relu():
    case = Case((64, 16, 8, 8), "contiguous", "float32", "relu")
    tensors = make_tensors(case)
    Reference(case, tensors)
    zeros = (tensors.grad == 0).float().mean().item()
    assert zeros < 1e-3


def test_in_place_side_gives_the_same_results():
    case = Case(SMALL, "contiguous", "float32", "plain")
    tensors = make_tensors(case)
    reference = Reference(case, tensors)
    before = tensors.x.detach().clone()
    found = reference.errors(memory.in_place(case, tensors), tensors.grad)
    assert set(found) >= {"output", "grad_input"}
    assert torch.equal(tensors.x.detach(), before)


def test_every_shape_and_layout_has_three_forms_in_both_dtypes():
    found = cases()
    assert len(found) == 17 * 2 * 3
    assert {case.shape for case in found} == set(SHAPES)
    assert len({case.key for case in found}) == len(found)
    for case in found:
        assert case.layout == "contiguous" or len(case.shape) >= 4
