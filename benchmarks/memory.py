"""Tensors beyond 32 MB, where first touches of fresh pages cost more than the arithmetic.

Four ways to allocate them: glibc's default, torch's transparent huge pages
(``THP_MEM_ALLOC_ENABLE=1``), ``batchnorm.keep_pages()``, and not at all (in place).
"""

import time
from collections.abc import Callable

import torch

import batchnorm
from benchmarks import contenders
from benchmarks.cases import Case, Tensors, make_tensors
from benchmarks.check import Reference
from benchmarks.contenders import Contender
from benchmarks.context import Context
from benchmarks.footprint import minor_faults, peak_growth
from benchmarks.ops import copy_side, training_side
from benchmarks.rows import Row, guarded, timed_row, wrong_row
from benchmarks.runner import Plan, Side, measure
from benchmarks.worker import main, run_worker

__all__ = ["NAME", "PAGES", "rows"]

NAME = "memory"
SHAPE = (32, 256, 56, 56)
PAGES = ("default", "huge_pages", "keep_pages")
_ENVIRONMENT = {"huge_pages": {"THP_MEM_ALLOC_ENABLE": "1"}}
_PLAN = Plan(rounds=9, max_rounds=18, seconds=5.0, warm_up=1)
_QUICK = Plan(rounds=3, least=2, max_rounds=5, seconds=3.0, warm_up=1)


def rows(context: Context) -> list[tuple[str, Callable[[], Row]]]:
    """Plain in both layouts and ReLU in one, for each way of allocating."""
    kinds = [("contiguous", "plain"), ("channels_last", "plain"), ("contiguous", "relu")]
    return [
        _entry(Case(SHAPE, layout, "float32", form), pages, context)
        for layout, form in kinds[: 1 if context.quick else None]
        for pages in PAGES
    ]


def _entry(case: Case, pages: str, context: Context) -> tuple[str, Callable[[], Row]]:
    key = f"{case.key} {pages}"
    facts = {**case.facts, "pages": pages}
    task = {**facts, "key": key, "threads": context.threads, "quick": context.quick}

    def make() -> Row:
        context.tick()
        return run_worker("benchmarks.memory", task, environment=_ENVIRONMENT.get(pages))

    return key, lambda: guarded(key, facts, make)


def work(task: Row) -> Row:
    """The worker's half of one row."""
    torch.set_num_threads(task["threads"])
    if task["pages"] == "keep_pages" and not batchnorm.keep_pages():
        raise RuntimeError("keep_pages: the allocator must be glibc's. Got another. Skip the row.")
    case = Case(tuple(task["shape"]), task["layout"], task["dtype"], task["form"])
    facts = {**case.facts, "pages": task["pages"]}
    tensors = make_tensors(case)
    found = {"ours": contenders.ours(case, tensors), "eager": contenders.eager(case, tensors)}
    if case.form == "plain":
        found["in_place"] = in_place(case, tensors)
    reason = _wrong(case, tensors, found)
    if reason:
        return wrong_row(task["key"], facts, reason)
    sides = [_side(name, side, tensors) for name, side in found.items()]
    sides += [copy_side(tensors), _clone_side(tensors)]
    steps = {name: _step(name, side, tensors) for name, side in found.items()}
    facts["faults"] = {name: _look(step, minor_faults) for name, step in steps.items()}
    # Pages that were never given back are no growth, so there a peak would say nothing.
    peak = (lambda step: None) if task["pages"] == "keep_pages" else peak_growth
    facts["peak_mib"] = {name: _look(step, peak) for name, step in steps.items()}
    return timed_row(task["key"], facts, measure(sides, _QUICK if task["quick"] else _PLAN))


def _wrong(case: Case, tensors: Tensors, found: dict[str, Contender]) -> str:
    reference = Reference(case, tensors)
    reasons = [
        reference.broken(reference.errors(side, tensors.grad))
        for name, side in found.items() if name != "eager"
    ]  # fmt: skip
    return "; ".join(filter(None, reasons))


def _step(name: str, side: Contender, tensors: Tensors) -> Callable[[], Callable[[], object]]:
    """A function that prepares one forward and backward and returns it; input not included."""

    def prepare() -> Callable[[], object]:
        forward = side.forward
        if name == "in_place":
            x = tensors.x.clone()
            forward = lambda: side.layer(x)  # noqa: E731
        return lambda: torch.autograd.grad(forward(), side.gradient_of, tensors.grad)

    return prepare


def _look(
    prepare: Callable[[], Callable[[], object]],
    look: Callable[[Callable[[], object]], float | None],
) -> float | None:
    """What ``look`` sees in a step that is not the first."""
    prepare()()
    return look(prepare())


def in_place(case: Case, tensors: Tensors) -> Contender:
    """Our layer writing its output over its input; only where autograd can undo it."""
    side = contenders.ours(case, tensors)
    side.layer.inplace = True
    layer = side.layer
    side.function = lambda x: layer(x.clone())
    return side


def _side(name: str, side: Contender, tensors: Tensors) -> Side:
    if name != "in_place":
        return training_side(name, side, tensors.grad)
    layer, grad, clock = side.layer, tensors.grad, time.perf_counter_ns

    def call() -> tuple[int, int]:
        """The copy that saves the input for the next call is not timed."""
        x = tensors.x.clone()
        start = clock()
        output = layer(x)
        middle = clock()
        gradients = torch.autograd.grad(output, side.gradient_of, grad)
        del output, x, gradients
        return middle - start, clock() - middle

    return Side(name, call, ("forward", "backward"))


def _clone_side(tensors: Tensors) -> Side:
    """A copy into fresh memory: what any operator that allocates its output pays at least."""
    source, clock = tensors.x.detach(), time.perf_counter_ns

    def call() -> tuple[int]:
        start = clock()
        target = source.clone()
        del target
        return (clock() - start,)

    return Side("clone", call)


if __name__ == "__main__":
    main(work)
