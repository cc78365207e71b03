"""The tests' own instruments: tolerances refuse small mistakes and accept honest rounding."""

import pytest
import torch

from batchnorm import reference
from tests.activations import ACTS
from tests.calls import oracle_train, train
from tests.cases import LAYOUTS, lay_out, make_case
from tests.peer import peer, preactivation
from tests.strategies import strided
from tests.tolerance import assert_same, assert_within, floors, off_kinks


def refused(result, oracle, peer_result, floor):
    with pytest.raises(AssertionError, match="too far from the oracle"):
        assert_within(result, oracle, peer_result, floor, "result")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_relative_error_far_above_rounding_is_refused(dtype):
    case = make_case((8, 5, 6, 6), dtype)
    oracle, torchs, floor = oracle_train(case), peer(case), floors(case)
    wrong = 1 + 256 * torch.finfo(dtype).eps
    refused(oracle.forward.output * wrong, oracle.forward.output, torchs.output, floor.output)
    grad = oracle.backward.grad_input
    refused(grad * wrong, grad, torchs.grad_input, floor.grad_input)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda f, n: f.var * n / (n - 1),  # unbiased where biased is meant
        lambda f, n: f.var + 1e-5,  # eps inside
        lambda f, n: f.var.roll(1),  # channels mixed up
    ],
)
def test_mistaken_variances_are_refused(mistake):
    case = make_case((8, 5, 6, 6))
    want = oracle_train(case).forward
    refused(mistake(want, 8 * 36), want.var, peer(case).var, floors(case).var)


def test_backward_without_its_mean_terms_is_refused():
    case = make_case((8, 5, 6, 6))
    oracle = oracle_train(case)
    scale = (case.weight * oracle.forward.invstd).view(1, -1, 1, 1)
    want, floor = oracle.backward.grad_input, floors(case).grad_input
    refused(scale * case.grad, want, peer(case).grad_input, floor)
    refused(torch.zeros_like(want), want, peer(case).grad_input, floor)


def test_one_wrong_element_or_nan_is_refused():
    case = make_case((8, 5, 6, 6))
    want, floor = oracle_train(case).forward.output, floors(case).output
    for value in (float("nan"), float("inf"), 0.0):
        wrong = want.clone()
        wrong[3, 2, 5, 5] = value
        refused(wrong, want, None, floor)


@pytest.mark.parametrize("act", ACTS)
def test_a_neighbouring_activation_is_refused(act):
    if act == "identity":
        pytest.skip("nothing beside it")
    names = list(ACTS)
    case = make_case((8, 5, 6, 6), form="act", act=act)
    other = make_case((8, 5, 6, 6), form="act", act=names[names.index(act) - 1])
    refused(
        train(reference, other).output, train(reference, case).output, None, floors(case).output
    )


def test_float32_arithmetic_of_torch_is_accepted():
    for seed in range(5):
        case = make_case((8, 5, 6, 6), form="residual_act", seed=seed)
        case = off_kinks(case, preactivation(case))
        oracle, torchs, floor = oracle_train(case), peer(case), floors(case)
        assert_within(torchs.output, oracle.forward.output, None, floor.output, "output")
        assert_within(torchs.grad_input, oracle.backward.grad_input, None, floor.grad_input, "dx")


def test_cotangents_vanish_at_kinks_only():
    case = make_case((64, 5, 6, 6), form="act")
    kept = off_kinks(case, preactivation(case))
    dropped = (kept.grad == 0).double().mean().item()
    assert dropped < 1e-3
    case.input[0, 0, 0, 0] = 0
    pre = torch.zeros_like(case.input)
    assert (off_kinks(case, pre).grad == 0).all()


def test_assert_same_refuses_what_is_not():
    a = torch.tensor([1.0, 2.0])
    assert_same(a, a)
    with pytest.raises(AssertionError):
        assert_same(a, a * (1 + 1e-5))


@pytest.mark.parametrize("layout", [*LAYOUTS, "every_other", "expanded"])
def test_layouts_keep_values_and_differ_in_memory(layout):
    t = torch.randn(3, 4, 5, 6)
    other = strided(t, layout)
    if layout == "expanded":
        assert other.stride(-1) == 0
        return
    assert torch.equal(t, other)
    assert torch.equal(t, lay_out(t, layout))
    assert other.is_contiguous() == (layout == "contiguous")


def test_memory_that_nobody_wrote_is_nan():
    assert torch.empty(100).isnan().all()
    assert torch.empty_strided((3, 4), (1, 3)).isnan().all()
    assert torch.ones(3).new_empty(5).isnan().all()
