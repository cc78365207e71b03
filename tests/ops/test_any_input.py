"""Shapes, strides and values that nobody thought of."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.calls import evaluate, oracle_train, train
from tests.cases import make_case
from tests.ops.test_eval import check_eval
from tests.ops.test_train import check_train
from tests.strategies import cases, hard_values, shapes
from tests.tolerance import assert_within, floors


@given(case=cases(min_count=2))
def test_train_matches_oracle_on_any_input(kernels, case):
    check_train(kernels, case)


@given(case=cases())
def test_eval_matches_oracle_on_any_input(kernels, case):
    check_eval(kernels, case)


@given(data=st.data())
def test_hard_values_stay_in_their_channel(kernels, data):
    shape = data.draw(shapes(empty=True))
    case = make_case(shape)
    object.__setattr__(case, "input", data.draw(hard_values(shape)))
    out = train(kernels, case)
    assert not (out.var < 0).any()
    good = case.input.movedim(1, 0).flatten(1)
    good = good.isfinite().all(1) & (good.abs().double().square().sum(1) < 1e37)
    want = oracle_train(case).forward
    floor = floors(case)
    assert out.mean[good].isfinite().all()
    assert_within(out.mean[good], want.mean[good], None, floor.mean[good], "mean")
    assert_within(out.var[good], want.var[good], None, floor.var[good], "var")
    y, want_y, floor_y = out.output[:, good], want.output[:, good], floor.output[good]
    assert_within(y, want_y, None, floor_y, "output")


@given(case=cases(min_count=2, dtypes=(torch.float32,)))
def test_inputs_are_not_written(kernels, case):
    before = [None if t is None else t.clone() for t in (case.input, case.residual, case.weight)]
    train(kernels, case)
    evaluate(kernels, case)
    for a, b in zip(before, (case.input, case.residual, case.weight), strict=True):
        assert a is None or torch.equal(a, b)
