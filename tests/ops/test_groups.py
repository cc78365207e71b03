"""The operators on groups, by kernel and by fallback, against the float64 oracle."""

import dataclasses

import pytest
import torch

from batchnorm import reference
from tests.activations import ACTS
from tests.calls import backward as plain_backward
from tests.calls import same_layout
from tests.calls import train as plain_train
from tests.cases import DTYPES, FORMS, LAYOUTS, make_case
from tests.groups import Groups, backward, make_groups, off_kinks, parts, train
from tests.tolerance import assert_within, floors

SHAPES = [(33, 24), (9, 17, 7, 7), (3, 10, 14, 14), (12, 3, 31), (7, 7, 5, 4, 3), (40, 33, 1, 1)]
# Float64 against float64.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
#: Groups and rows: everything together, few, more than there are samples.
SPLITS = [(1, None), (3, None), (1, 5), (4, 2), (50, 50)]


def check(kernels, g: Groups) -> None:
    """Forward and backward against the oracle, each group by tolerances of its own."""
    g = off_kinks(g)
    out = train(kernels, g)
    grads = backward(kernels, g, out)
    wide = g.double()
    want = train(reference, wide)
    truth = backward(reference, wide, dataclasses.replace(want, output=None))

    assert out.count.tolist() == want.count.tolist()
    assert out.output.dtype == g.case.input.dtype
    assert out.mean.dtype == grads.grad_weight.dtype == g.case.acc
    assert same_layout(out.output, g.case.input)
    assert same_layout(grads.grad_input, g.case.input)
    sum_floor = torch.zeros(2, g.case.input.shape[1], dtype=torch.float64)
    for i, at, part in parts(g):
        floor = floors(part)
        assert_within(out.mean[[i]], want.mean[[i]], None, floor.mean, "mean")
        assert_within(out.var[[i]], want.var[[i]], None, floor.var, "var")
        assert_within(out.output[at], want.output[at], None, floor.output, "output")
        dx, true_dx = grads.grad_input[at], truth.grad_input[at]
        assert_within(dx, true_dx, None, floor.grad_input, "grad_input")
        if grads.grad_residual.numel():
            dr, true_dr = grads.grad_residual[at], truth.grad_residual[at]
            assert_within(dr, true_dr, None, floor.grad_residual, "grad_residual")
        sum_floor += torch.stack([floor.grad_weight, floor.grad_bias])
    table = (-1, g.case.input.shape[1])
    for mine, true, floor in zip(
        (grads.grad_weight, grads.grad_bias),
        (truth.grad_weight, truth.grad_bias),
        sum_floor,
        strict=True,
    ):
        assert mine.shape == true.shape
        assert_within(mine.reshape(table), true.reshape(table), None, floor, "affine")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_groups_match_oracle(kernels, dtype, layout, form):
    check(kernels, make_groups(make_case((9, 17, 5, 4), dtype, layout, form), 3, 4))


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_groups_match_oracle_in_any_shape(kernels, shape, layout, split):
    check(kernels, make_groups(make_case(shape, torch.float32, layout, "residual_act"), *split))


@pytest.mark.parametrize("affine", ["weight", "bias", "none"])
@pytest.mark.parametrize("form", ["plain", "masked"])
def test_groups_without_weight_or_bias(kernels, form, affine):
    case = make_case((9, 5, 6), torch.float32, form=form, affine=affine)
    check(kernels, make_groups(case, 3, None if affine == "none" else 2))


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("form", ["act", "residual_act", "masked"])
def test_every_activation(kernels, form, act):
    check(kernels, make_groups(make_case((8, 10, 5, 3), torch.float32, form=form, act=act), 3, 2))


@pytest.mark.parametrize("offset", [1e4, -1e4])
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_far_from_zero(kernels, layout, offset):
    case = make_case((24, 6, 9, 5), torch.float32, layout, offset=offset, std=1e-2)
    check(kernels, make_groups(case, 4, None))


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("form", FORMS)
def test_one_group_is_the_plain_operator(kernels, form, layout):
    case = make_case((9, 7, 4, 3), torch.float32, layout, form)
    g = make_groups(case, 1, None)
    out, plain = train(kernels, g), plain_train(kernels, case)
    grads = backward(kernels, g, out)
    plain_grads = plain_backward(kernels, case, plain.mean, plain.invstd, plain.output)
    floor = floors(case)
    assert_within(out.output, plain.output, None, floor.output, "output")
    for name in ("grad_input", "grad_weight", "grad_bias"):
        mine, theirs = getattr(grads, name), getattr(plain_grads, name)
        assert_within(mine, theirs, None, getattr(floor, name), name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [None, 3])
def test_given_statistics_are_constants(kernels, rows, layout, form):
    g = make_groups(make_case((9, 7, 4, 3), torch.float64, layout, form), 4, rows)
    c = g.case
    mean, invstd = torch.randn(4, 7).double(), torch.rand(4, 7).double() + 0.5
    args = (g.weight, g.bias, c.residual, c.mask, g.index, g.rows, *c.code)
    y = kernels.batch_norm_groups_apply(c.input, mean, invstd, *args)
    want = reference.batch_norm_groups_apply(c.input, mean, invstd, *args)
    assert same_layout(y, c.input)
    torch.testing.assert_close(y, want, **CLOSE)
    out = dataclasses.replace(
        train(reference, g), output=y, mean=mean, invstd=invstd, count=torch.zeros(4).long()
    )
    got = backward(kernels, g, out, training=False)
    truth = backward(reference, g, out, training=False)
    for name in ("grad_input", "grad_weight", "grad_bias", "grad_residual"):
        mine, theirs = getattr(got, name), getattr(truth, name)
        torch.testing.assert_close(mine, theirs, **CLOSE, msg=name)


@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3, 2), (3, 5, 0)], ids=str)
def test_nothing_to_normalise(kernels, shape):
    g = make_groups(make_case(shape), 2, 3)
    out = train(kernels, g)
    grads = backward(kernels, g, out)
    assert out.output.shape == grads.grad_input.shape == shape
    assert out.count.tolist() == [0, 0]
    assert not out.mean.any()
    assert not grads.grad_weight.any()
    assert grads.grad_weight.shape == (3, 5)


def test_padding_may_hold_anything(kernels):
    g = make_groups(make_case((8, 5, 6), form="masked"), 3, 2)
    dirty = g.case.input.masked_fill(~g.case.mask.unsqueeze(1), float("nan"))
    poisoned = dataclasses.replace(g, case=dataclasses.replace(g.case, input=dirty))
    for clean, got in zip(
        dataclasses.astuple(train(kernels, g)),
        dataclasses.astuple(train(kernels, poisoned)),
        strict=True,
    ):
        assert torch.equal(clean, got)


@pytest.mark.parametrize("bad", [[0, 1, 3], [0, -1, 2]])
@pytest.mark.parametrize("name", ["index", "rows"])
def test_labels_out_of_range_are_refused(kernels, name, bad):
    g = make_groups(make_case((3, 4, 5)), 3, 3)
    g = dataclasses.replace(g, **{name: torch.tensor(bad)})
    with pytest.raises(RuntimeError, match=rf"{name} must (be|lie) in \[0, 3\)"):
        train(kernels, g)
    good = dataclasses.replace(g, **{name: torch.zeros(3, dtype=torch.int64)})
    with pytest.raises(RuntimeError, match=rf"{name} must (be|lie) in \[0, 3\)"):
        backward(kernels, g, train(kernels, good))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"index": torch.zeros(2, dtype=torch.int64)}, "index must"),
        ({"index": torch.zeros(3, dtype=torch.int32)}, "index must be int64"),
        ({"rows": torch.zeros(4, dtype=torch.int64)}, "rows must"),
        ({"rows": torch.zeros(3)}, "rows must be int64"),
        ({"rows": None}, "weight must have"),
        ({"bias": torch.zeros(2, 4)}, "bias must have"),
        ({"weight": None, "bias": None}, "rows need a weight or a bias"),
    ],
)
def test_wrong_labels_and_tables_are_refused(kernels, change, rule):
    g = make_groups(make_case((3, 4, 5)), 3, 3)
    with pytest.raises((RuntimeError, TypeError), match=rule):
        train(kernels, dataclasses.replace(g, **change))
