"""A case in groups: labels, rows of the affine tables, and each group alone as the judge."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batchnorm import reference
from tests import tolerance
from tests.activations import ACTS
from tests.calls import Backward, Forward, saved, wants_grad_residual
from tests.calls import backward as plain_backward
from tests.calls import train as plain_train
from tests.cases import Case


@dataclass(frozen=True)
class Groups:
    """A case, the group of each of its samples, and the tables that its rows choose from."""

    case: Case
    index: Tensor
    groups: int
    rows: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def double(self) -> "Groups":
        weight, bias = (None if t is None else t.double() for t in (self.weight, self.bias))
        return dataclasses.replace(self, case=self.case.double(), weight=weight, bias=bias)


def make_groups(case: Case, groups: int, rows: int | None, seed: int = 0) -> Groups:
    """Random labels; with ``rows``, tables of that many random rows."""
    g = torch.Generator().manual_seed(seed)
    samples, channels = case.input.shape[:2]
    index = torch.randint(groups, (samples,), generator=g)
    if rows is None:
        return Groups(case, index, groups, None, case.weight, case.bias)

    def table(like: Tensor | None) -> Tensor | None:
        if like is None:
            return None
        return torch.randn(rows, channels, generator=g).to(like.dtype)

    labels = torch.randint(rows, (samples,), generator=g)
    return Groups(case, index, groups, labels, table(case.weight), table(case.bias))


def train(k: Any, g: Groups) -> Forward:
    c = g.case
    return Forward(
        *k.batch_norm_groups_train(
            c.input, g.weight, g.bias, c.residual, c.mask, g.index, g.groups, g.rows, c.eps, *c.code
        )
    )


def backward(k: Any, g: Groups, forward: Forward, *, training: bool = True) -> Backward:
    c = g.case
    return Backward(
        *k.batch_norm_groups_backward(
            c.grad, c.input, g.weight, g.bias, forward.mean, forward.invstd, forward.count,
            *saved(c, forward.output), c.mask, g.index, g.rows, *c.code, training,
            wants_grad_residual(c),
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """Everything that a forward and a backward of all groups give."""

    output: Tensor
    mean: Tensor
    var: Tensor
    count: Tensor
    grad_input: Tensor
    grad_weight: Tensor
    grad_bias: Tensor
    grad_residual: Tensor


def one_by_one(g: Groups) -> Whole:
    """Each group alone by the plain oracle: statistics of its own, rows sample by sample."""
    c, channels = g.case, g.case.input.shape[1]
    table = g.bias if g.weight is None else g.weight
    shape = (channels,) if g.rows is None or table is None else (len(table), channels)
    total = Whole(
        output=torch.zeros_like(c.input),
        mean=torch.zeros(g.groups, channels, dtype=c.acc),
        var=torch.zeros(g.groups, channels, dtype=c.acc),
        count=torch.zeros(g.groups, dtype=torch.int64),
        grad_input=torch.zeros_like(c.input),
        grad_weight=torch.zeros(shape, dtype=c.acc),
        grad_bias=torch.zeros(shape, dtype=c.acc),
        grad_residual=torch.zeros_like(c.input),
    )
    for i in range(g.groups):
        at = (g.index == i).nonzero().flatten()
        _add_group(total, g, i, at)

    return total


def _add_group(total: Whole, g: Groups, i: int, at: Tensor) -> None:
    part = _samples(g.case, at)
    if g.rows is None:
        out = plain_train(reference, part)
        grads = plain_backward(reference, part, out.mean, out.invstd)
        total.grad_weight.add_(grads.grad_weight)
        total.grad_bias.add_(grads.grad_bias)
        dx, dr, y, stats = grads.grad_input, grads.grad_residual, out.output, out
    else:
        dx, dr, y, stats = _by_rows(total, g, part, g.rows[at])
    total.output[at], total.grad_input[at] = y, dx
    if dr.numel():
        total.grad_residual[at] = dr
    total.mean[i], total.var[i], total.count[i] = stats.mean, stats.var, stats.count


def _by_rows(
    total: Whole, g: Groups, part: Case, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor, Forward]:
    """One group whose samples have rows, by autograd; an absent table is one of ones or zeros."""
    mean, var, count = reference.batch_norm_stats(part.input, part.mask)
    x, residual = part.input.clone(), torch.zeros_like(part.input)
    if part.residual is not None:
        residual = part.residual.clone()
    weight = torch.ones_like(total.grad_weight) if g.weight is None else g.weight.clone()
    bias = torch.zeros_like(total.grad_bias) if g.bias is None else g.bias.clone()
    leaves = [t.requires_grad_() for t in (x, weight, bias, residual)]

    def view(t: Tensor) -> Tensor:
        return t.reshape(-1, x.shape[1], *(1,) * (x.ndim - 2))

    m, v, _ = reference.batch_norm_stats(x, part.mask)
    pre = (x - view(m)) * view((v + part.eps).rsqrt()) * view(weight[rows]) + view(bias[rows])
    y = part.act(pre + residual)
    if part.mask is not None:
        y = torch.where(part.mask.unsqueeze(1), y, 0.0)
    dx, grad_weight, grad_bias, dr = torch.autograd.grad(y, leaves, part.grad)
    total.grad_weight.add_(grad_weight)
    total.grad_bias.add_(grad_bias)

    return dx, dr, y.detach(), Forward(y, mean, var, (var + part.eps).rsqrt(), count)


def _samples(case: Case, at: Tensor) -> Case:
    """The case with these samples alone."""
    pick = {
        name: None if (t := getattr(case, name)) is None else t[at]
        for name in ("input", "residual", "mask", "grad")
    }
    return dataclasses.replace(case, **pick)


def parts(g: Groups) -> list[tuple[int, Tensor, Case]]:
    """Each group that has samples: its number, its samples, and they as a case for tolerances.

    Weight and bias of such a case are the largest of all rows: they bound the rounding of each.
    """

    def bound(table: Tensor | None) -> Tensor | None:
        return table if table is None or g.rows is None else table.abs().amax(0)

    case = dataclasses.replace(g.case, weight=bound(g.weight), bias=bound(g.bias))
    members = ((i, (g.index == i).nonzero().flatten()) for i in range(g.groups))

    return [(i, at, _samples(case, at)) for i, at in members if len(at)]


def off_kinks(g: Groups) -> Groups:
    """The same with a cotangent of zero where rounding may decide the side of a kink."""
    if not g.case.act.kinks:
        return g

    wide = g.double()
    wide = dataclasses.replace(wide, case=dataclasses.replace(wide.case, act=ACTS["identity"]))
    pre = train(reference, wide).output
    grad = g.case.grad.clone(memory_format=torch.preserve_format)
    for _, at, part in parts(g):
        grad[at] = tolerance.off_kinks(part, pre[at]).grad

    return dataclasses.replace(g, case=g.case.with_grad(grad))
