"""The price of a call: a tensor so small that arithmetic is nothing, on one thread."""

import time
from collections.abc import Callable

import torch

from benchmarks import contenders
from benchmarks.cases import FORMS, Case, make_tensors
from benchmarks.check import Reference
from benchmarks.contenders import Contender
from benchmarks.context import Context
from benchmarks.ops import training_side
from benchmarks.rows import Row, guarded, timed_row, wrong_row
from benchmarks.runner import Plan, Side, measure

__all__ = ["MODES", "NAME", "rows"]

NAME = "overhead"
SHAPE = (8, 16, 4, 4)
MODES = ("no_grad", "eval", "train")
_PLAN = Plan(rounds=41, max_rounds=120, block_seconds=0.01)
_QUICK = Plan(rounds=9, max_rounds=27)


def rows(context: Context) -> list[tuple[str, Callable[[], Row]]]:
    """Each form: training forward under no_grad, inference, and training with its backward."""
    return [_entry(form, mode, context) for form in FORMS for mode in MODES]


def _entry(form: str, mode: str, context: Context) -> tuple[str, Callable[[], Row]]:
    case = Case(SHAPE, "contiguous", "float32", form)
    key = f"{case.key} {mode}"
    facts = {**case.facts, "mode": mode}
    return key, lambda: guarded(key, facts, lambda: _row(key, case, mode, facts, context))


def _row(key: str, case: Case, mode: str, facts: Row, context: Context) -> Row:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tensors = make_tensors(case)
        reference = Reference(case, tensors)
        found = {"ours": contenders.ours(case, tensors), "eager": contenders.eager(case, tensors)}
        reason = reference.broken(reference.errors(found["ours"], tensors.grad))
        if reason:
            return wrong_row(key, facts, reason)
        sides = [_side(name, side, mode, tensors.grad) for name, side in found.items()]
        timing = measure(sides, _QUICK if context.quick else _PLAN, after_round=context.tick)
        return timed_row(key, facts, timing)
    finally:
        torch.set_num_threads(threads)


def _side(name: str, side: Contender, mode: str, grad: torch.Tensor) -> Side:
    if mode == "train":
        return training_side(name, side, grad)
    side.layer.train(mode == "no_grad")
    clock = time.perf_counter_ns

    def call() -> tuple[int]:
        with torch.no_grad():
            start = clock()
            side.forward()
            return (clock() - start,)

    return Side(name, call)
