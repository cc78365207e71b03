"""Autograd of the operators on groups: eager and registered, what they keep, what they refuse."""

import dataclasses

import pytest
import torch

from batchnorm import reference
from batchnorm.ops import Lane, commit_groups, normalise_groups, normalise_groups_by
from tests.cases import FORMS, make_case
from tests.groups import Groups, make_groups

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
LANES = [Lane.EAGER, Lane.COMPILED, Lane.PLAIN]


def leaves_of(g: Groups) -> list[torch.Tensor]:
    tensors = (g.case.input, g.weight, g.bias, g.case.residual)
    return [t.detach().clone().requires_grad_() for t in tensors if t is not None]


def run(lane: Lane, g: Groups, leaves, *, training: bool):
    c = g.case
    x, weight, bias, *rest = leaves
    residual = rest[0] if rest else None
    args = (x, weight, bias, residual, c.mask, g.index)
    if training:
        return normalise_groups(lane, *args, g.groups, g.rows, c.eps, *c.code)[0]
    mean = torch.linspace(-1, 1, g.groups * x.shape[1], dtype=F64).view(g.groups, -1)
    return normalise_groups_by(lane, mean, mean + 2, *args, g.rows, c.eps, *c.code)


def case_of(form, act=None, rows=2):
    shape = (7, 3, 4) if act != "relu" else (7, 3, 2)
    return make_groups(make_case(shape, F64, form=form, act=act), 3, rows)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", ["identity", "relu", "silu"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lane", LANES[:2], ids=str)
def test_gradients_are_those_of_the_reference(lane, form, act, training):
    g = case_of(form, act)
    results = []
    for way in (lane, Lane.PLAIN):
        leaves = leaves_of(g)
        y = run(way, g, leaves, training=training)
        results.append([y, *torch.autograd.grad(y, leaves, g.case.grad)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("form", ["plain", "residual_act", "masked"])
def test_gradients_of_gradients(form, rows, training):
    g = case_of(form, "silu" if form != "plain" else None, rows)
    for lane in (Lane.EAGER, Lane.COMPILED):
        assert torch.autograd.gradgradcheck(
            lambda *leaves, lane=lane: run(lane, g, leaves, training=training),
            leaves_of(g),
            fast_mode=True,
        )


def saved_sizes(g: Groups, *, training: bool, weight_wants: bool = True) -> int:
    """How many tensors of the input's size are kept."""
    leaves = leaves_of(g)
    leaves[1].requires_grad_(weight_wants)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        run(Lane.EAGER, g, leaves, training=training)
    return sum(t.numel() == g.case.input.numel() and t.is_floating_point() for t in kept)


@pytest.mark.parametrize(
    ("form", "act", "training", "weight_wants", "sizes"),
    [
        ("plain", "identity", True, True, 1),
        ("act", "relu", True, True, 1),
        ("residual", "identity", True, True, 1),
        ("residual_act", "relu", True, True, 2),
        ("residual_act", "silu", True, True, 2),
        ("plain", "identity", False, False, 0),
        ("residual", "identity", False, False, 0),
        ("act", "relu", False, False, 1),
        ("residual_act", "silu", False, False, 2),
    ],
)
def test_no_more_is_kept_than_by_the_plain_operators(form, act, training, weight_wants, sizes):
    g = case_of(form, act)
    assert saved_sizes(g, training=training, weight_wants=weight_wants) == sizes


def test_two_forwards_before_one_backward_keep_their_statistics():
    g = case_of("plain")
    leaves, mean, var = leaves_of(g), torch.zeros(3, 3, dtype=F64), torch.ones(3, 3, dtype=F64)
    args = (*leaves, None, None, g.index, g.rows, 1e-5, 0, 0.0)
    y = normalise_groups_by(Lane.EAGER, mean, var, *args)
    mean.add_(5)
    var.mul_(9)
    (dx,) = torch.autograd.grad(y, leaves[:1], g.case.grad)
    want = g.case.grad * leaves[1].detach()[g.rows].unsqueeze(2) * (1 + 1e-5) ** -0.5
    torch.testing.assert_close(dx, want, **CLOSE)


def test_statistics_are_no_part_of_the_graph():
    g = case_of("plain")
    for lane in LANES:
        x = g.case.input.clone().requires_grad_()
        args = (x, None, None, None, None, g.index, 3, None, 1e-5, 0, 0.0)
        _, (mean, var, count) = normalise_groups(lane, *args)
        assert not mean.requires_grad
        assert not var.requires_grad
        assert count.dtype == torch.int64


def test_operator_refuses_statistics_that_want_a_gradient():
    g = case_of("plain")
    mean = torch.zeros(3, 3, dtype=F64, requires_grad=True)
    args = (g.weight, g.bias, None, None, g.index, g.rows, 0, 0.0)
    with pytest.raises(RuntimeError, match="mean and invstd are constants"):
        torch.ops.batchnorm.batch_norm_groups_apply(g.case.input, mean, mean.detach(), *args)


def test_operator_of_the_backward_refuses_a_second_one():
    g = case_of("plain")
    out = reference.batch_norm_groups_train(
        g.case.input, g.weight, g.bias, None, None, g.index, 3, g.rows, 1e-5, 0, 0.0
    )
    _, mean, _, invstd, count = out
    grad = g.case.grad.clone().requires_grad_()
    dx, *_ = torch.ops.batchnorm.batch_norm_groups_backward(
        *(grad, g.case.input, g.weight, g.bias, mean, invstd, count, None, None, None),
        *(g.index, g.rows, 0, 0.0, True, False),
    )
    with pytest.raises(RuntimeError, match="no derivative of its own"):
        dx.sum().backward()


def memory():
    mean, var = torch.randn(3, 4), torch.rand(3, 4)
    return [mean, var, torch.tensor([4, 0, 2]), torch.tensor([[0, 1, 0, 0]] + [[0] * 4] * 2)]


@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0, None])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("lane", [Lane.EAGER, Lane.PLAIN], ids=str)
def test_commit_by_operator_is_that_of_the_reference(lane, per_channel, momentum):
    torch.manual_seed(0)
    mean, var = torch.randn(3, 4), torch.rand(3, 4)
    count = torch.tensor([[7], [0], [2]])
    if per_channel:
        count = torch.tensor([[7, 1, 0, 3], [0, 0, 0, 0], [2, 2, 9, 0]])
    mean[0, 3], var[2, 0] = float("nan"), float("inf")
    buffers = memory()
    want = reference.batch_norm_groups_commit(*buffers, mean, var, count, momentum)
    mine = [b.clone() for b in buffers]
    commit_groups(lane, tuple(mine), (mean, var, count), momentum)
    for got, expected in zip(mine, want, strict=True):
        torch.testing.assert_close(got, expected)
    assert mine[2].tolist() == [5, 0, 3]


def test_groups_merge_to_the_whole_batch():
    g = dataclasses.replace(case_of("masked"), index=torch.tensor([0, 2, 2, 0, 0, 2, 2]))
    c = g.case
    parts = reference.batch_norm_groups_stats(c.input, c.mask, g.index, 4)
    whole = reference.batch_norm_stats(c.input, c.mask)
    merges = (reference.batch_norm_groups_merge, torch.ops.batchnorm.batch_norm_groups_merge)
    for merge in merges:
        for mine, theirs in zip(merge(*parts), whole, strict=True):
            torch.testing.assert_close(mine, theirs, **CLOSE)
