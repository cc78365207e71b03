"""Training forward and backward of one layer: ours, eager torch, torch.compile and a plain copy."""

import time
from collections.abc import Callable

import torch

from benchmarks import contenders
from benchmarks.cases import Case, Tensors, cases, make_tensors
from benchmarks.check import Reference
from benchmarks.contenders import Contender
from benchmarks.context import Context
from benchmarks.rows import Row, guarded, timed_row, wrong_row
from benchmarks.runner import Plan, Side, measure

__all__ = ["NAME", "rows", "training_side"]

NAME = "ops"
_QUICK = Plan(rounds=9, max_rounds=18, seconds=2.0)


def rows(context: Context) -> list[tuple[str, Callable[[], Row]]]:
    """Key and maker of every row."""
    return [
        (case.key, lambda case=case: guarded(case.key, case.facts, lambda: _row(case, context)))
        for case in cases(quick=context.quick)
    ]


def _row(case: Case, context: Context) -> Row:
    tensors = make_tensors(case)
    reference = Reference(case, tensors)
    mine = contenders.ours(case, tensors)
    errors = {"ours": reference.errors(mine, tensors.grad), "eager": reference.eager_errors}
    facts = {**case.facts, "errors": errors}

    reason = reference.broken(errors["ours"])
    if reason:
        return wrong_row(case.key, facts, reason)

    found = {"ours": mine, "eager": contenders.eager(case, tensors)}
    if case.form != "plain":
        found["eager_inplace"] = contenders.eager_inplace(case, tensors)
    if context.compile:
        found["compile"], facts["compile_s"] = _compile(case, tensors)
        errors["compile"] = reference.errors(found["compile"], tensors.grad)
    del reference

    sides = [training_side(name, side, tensors.grad) for name, side in found.items()]
    timing = measure(
        [*sides, copy_side(tensors)], _QUICK if context.quick else Plan(), after_round=context.tick
    )
    return timed_row(case.key, facts, timing)


def _compile(case: Case, tensors: Tensors) -> tuple[Contender, float]:
    """The compiled side after its first step, and the seconds that compiling took."""
    start = time.perf_counter()
    side = contenders.compiled(case, tensors)
    torch.autograd.grad(side.forward(), side.gradient_of, tensors.grad)
    return side, round(time.perf_counter() - start, 2)


def training_side(name: str, side: Contender, grad: torch.Tensor) -> Side:
    """Forward, then backward; freeing what they allocated is part of the backward's time."""
    clock, differentiate = time.perf_counter_ns, torch.autograd.grad

    def call() -> tuple[int, int]:
        start = clock()
        output = side.forward()
        middle = clock()
        gradients = differentiate(output, side.gradient_of, grad)
        del output, gradients
        return middle - start, clock() - middle

    return Side(name, call, ("forward", "backward"))


def copy_side(tensors: Tensors) -> Side:
    """The floor: ``copy_`` of the input into memory that is already there."""
    source = tensors.x.detach()
    target = torch.empty_like(source)
    clock = time.perf_counter_ns

    def call() -> tuple[int]:
        start = clock()
        target.copy_(source)
        return (clock() - start,)

    return Side("copy", call)
