"""The oracle of the operators on groups: each group alone by the plain oracle, and autograd."""

import dataclasses

import pytest
import torch

from batchnorm import reference
from tests.cases import FORMS, make_case
from tests.groups import backward, make_groups, one_by_one, train

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = [(7, 3), (6, 1, 5), (9, 4, 2, 3), (5, 3, 2, 1, 4)]
# Without weight and bias there are no rows.
TABLES = [(affine, rows) for affine in ("both", "weight", "bias") for rows in (None, 1, 3)]
TABLES += [("none", None)]


@pytest.mark.parametrize(("affine", "rows"), TABLES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_groups_equal_each_group_alone(shape, form, rows, affine):
    case = make_groups(make_case(shape, torch.float64, form=form, affine=affine), 4, rows)
    out = train(reference, case)
    want = one_by_one(case)
    torch.testing.assert_close(out.output, want.output, **CLOSE)
    torch.testing.assert_close(out.mean, want.mean, **CLOSE)
    torch.testing.assert_close(out.var, want.var, **CLOSE)
    assert out.count.tolist() == want.count.tolist()
    got = backward(reference, case, out)
    torch.testing.assert_close(got.grad_input, want.grad_input, **CLOSE)
    torch.testing.assert_close(got.grad_weight, want.grad_weight, **CLOSE)
    torch.testing.assert_close(got.grad_bias, want.grad_bias, **CLOSE)
    if got.grad_residual.numel():
        torch.testing.assert_close(got.grad_residual, want.grad_residual, **CLOSE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_written_out_backward_equals_autograd(form, training):
    case = make_groups(make_case((9, 4, 3, 2), torch.float64, form=form, act="silu"), 3, 2)
    leaves = [t for t in (case.case.input, case.weight, case.bias) if t is not None]
    leaves = [t.detach().clone().requires_grad_() for t in leaves]
    base = dataclasses.replace(case.case, input=leaves[0])
    moved = dataclasses.replace(case, case=base, weight=leaves[1], bias=leaves[2])
    if training:
        out = train(reference, moved)
        y = out.output
    else:
        out = train(reference, case)
        out = dataclasses.replace(out, mean=out.mean + 0.5, invstd=out.invstd * 1.5)
        y = reference.batch_norm_groups_apply(
            leaves[0], out.mean, out.invstd, leaves[1], leaves[2], base.residual, base.mask,
            case.index, case.rows, *base.code,
        )  # fmt: skip
    wanted = torch.autograd.grad(y, leaves, base.grad)
    got = backward(reference, case, dataclasses.replace(out, output=None), training=training)
    for mine, theirs in zip((got.grad_input, got.grad_weight, got.grad_bias), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


def test_absent_group_is_neutral():
    case = make_groups(make_case((6, 3, 4), torch.float64), 5, None)
    index = torch.tensor([4, 0, 4, 0, 0, 2])
    out = train(reference, dataclasses.replace(case, index=index))
    assert out.count.tolist() == [12, 0, 4, 0, 8]
    assert not out.mean[[1, 3]].any()
    assert not out.var[[1, 3]].any()
    assert out.mean[0].abs().min() > 0


def test_not_finite_group_leaves_the_others_alone():
    case = make_groups(make_case((8, 3, 4), torch.float64), 2, None)
    index = torch.tensor([0, 1] * 4)
    case = dataclasses.replace(case, index=index)
    clean = train(reference, case)
    case.case.input[0] = float("nan")
    out = train(reference, case)
    assert out.output[::2].isnan().all()
    assert torch.equal(out.output[1::2], clean.output[1::2])
    assert torch.equal(out.var[1], clean.var[1])


def test_commit_equals_one_commit_per_group():
    g, c = 3, 4
    buffers = torch.randn(g, c), torch.rand(g, c), torch.tensor([5, 0, 2]), torch.zeros(g, c).long()
    mean, var, count = torch.randn(g, c), torch.rand(g, c), torch.tensor([[8], [0], [3]])
    mean[2, 1] = float("inf")
    for momentum in (0.1, None):
        new = reference.batch_norm_groups_commit(*buffers, mean, var, count, momentum)
        for i in range(g):
            old = (b[i] for b in buffers)
            want = reference.batch_norm_commit(*old, mean[i], var[i], count[i], momentum)
            for mine, theirs in zip(new, want, strict=True):
                assert torch.equal(mine[i], theirs)
    assert new[2].tolist() == [6, 0, 3]
    assert new[3].tolist() == [[0] * 4, [0] * 4, [0, 1, 0, 0]]
