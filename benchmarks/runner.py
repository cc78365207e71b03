"""Alternating rounds in one process, judged only on the rounds in which the machine was calm.

A *call* is one execution of a side. A *block* is some calls of one side in a row, worth a few
milliseconds. A *round* is one block of every side, in an order that rotates from round to round.
A round in which other tasks waited for a processor for more than ``Plan.stall`` of its wall time
is dropped. Ratios are taken inside a round, so that a slow phase of the machine cancels.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.pressure import Pressure, pressure_reader

__all__ = ["Plan", "Quartiles", "Round", "Side", "Timing", "measure", "quartiles"]


@dataclass(frozen=True)
class Side:
    """One contender: ``call`` runs it once and returns the nanoseconds of each phase."""

    name: str
    call: Callable[[], Sequence[int]]
    phases: tuple[str, ...] = ("total",)


@dataclass(frozen=True)
class Plan:
    """When to stop: ``rounds`` calm rounds, or ``max_rounds`` of any kind, or ``seconds``."""

    rounds: int = 21
    least: int = 5
    max_rounds: int = 63
    seconds: float = 4.0
    block_seconds: float = 0.004
    max_calls: int = 2000
    warm_up: int = 2
    stall: float = 0.02


@dataclass(frozen=True)
class Quartiles:
    """Median and the quartiles around it."""

    median: float
    q1: float
    q3: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles (inclusive method); all three the same for one value."""
    if not values:
        raise ValueError("quartiles: at least one value is needed. Got none.")
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, q1, q3)


@dataclass(frozen=True)
class Round:
    """Seconds per call of each side and phase; the share of wall time in which tasks waited."""

    seconds: dict[str, dict[str, float]]
    stalled: float | None


@dataclass
class Timing:
    """The rounds that count; of how many, how many of these were calm; whether too few were."""

    rounds: list[Round]
    total: int
    calm: int
    noisy: bool
    calls: dict[str, int] = field(default_factory=dict)

    def sides(self) -> list[str]:
        return list(self.rounds[0].seconds)

    def phases(self, side: str) -> list[str]:
        return list(self.rounds[0].seconds[side])

    def values(self, side: str, phase: str = "total") -> list[float]:
        """Seconds per call, one value a round."""
        return [one.seconds[side][phase] for one in self.rounds]


def measure(
    sides: Sequence[Side],
    plan: Plan | None = None,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    pressure: Pressure | None = None,
    after_round: Callable[[], None] | None = None,
) -> Timing:
    """Run the sides against each other until the plan is satisfied or exhausted."""
    plan = plan or Plan()
    pressure = pressure or pressure_reader()
    with _no_garbage_collection():
        calls = {side.name: _calibrate(side, plan, clock) for side in sides}
        rounds = _run_rounds(sides, plan, calls, clock, pressure, after_round)
    kept, calm, noisy = _select(rounds, plan)
    return Timing(kept, len(rounds), calm, noisy, calls)


def _run_rounds(sides, plan, calls, clock, pressure, after_round) -> list[Round]:
    rounds: list[Round] = []
    calm = 0
    start = clock()
    while calm < plan.rounds and len(rounds) < plan.max_rounds:
        if len(rounds) >= plan.least and (clock() - start) * 1e-9 >= plan.seconds:
            break
        one = _round(_order(sides, len(rounds)), calls, clock, pressure)
        rounds.append(one)
        calm += _is_calm(one, plan)
        if after_round is not None:
            after_round()
    return rounds


def _order(sides: Sequence[Side], index: int) -> list[Side]:
    """Rotated by one each round and reversed every other, so that nobody has a fixed neighbour."""
    shift = index % len(sides)
    order = [*sides[shift:], *sides[:shift]]
    return order[::-1] if index % 2 else order


def _round(sides, calls, clock, pressure) -> Round:
    waited, start = pressure(), clock()
    blocks = {side.name: _block(side, calls[side.name]) for side in sides}
    end, waited_after = clock(), pressure()
    blocks = {name: blocks[name] for name in calls}
    if waited is None or waited_after is None:
        return Round(blocks, None)
    wall = max((end - start) * 1e-3, 1e-9)
    return Round(blocks, (waited_after - waited) / wall)


def _block(side: Side, calls: int) -> dict[str, float]:
    """Median over the block's calls, in seconds, of each phase and of their sum."""
    samples = [side.call() for _ in range(calls)]
    columns = dict(zip(side.phases, zip(*samples, strict=True), strict=True))
    seconds = {phase: statistics.median(column) * 1e-9 for phase, column in columns.items()}
    if "total" not in seconds:
        seconds["total"] = statistics.median(map(sum, samples)) * 1e-9
    return seconds


def _calibrate(side: Side, plan: Plan, clock: Callable[[], int]) -> int:
    """Warm up, then choose how many calls make a block."""
    for _ in range(plan.warm_up):
        side.call()
    start = clock()
    side.call()
    call = max((clock() - start) * 1e-9, 1e-9)
    return min(max(math.ceil(plan.block_seconds / call), 1), plan.max_calls)


def _is_calm(one: Round, plan: Plan) -> bool:
    return one.stalled is None or one.stalled <= plan.stall


def _select(rounds: list[Round], plan: Plan) -> tuple[list[Round], int, bool]:
    """The calm rounds; on a machine too busy for ``least`` of them, the calmest, marked noisy."""
    calm = [one for one in rounds if _is_calm(one, plan)]
    if len(calm) >= min(plan.least, len(rounds)):
        return calm, len(calm), False
    calmest = sorted(rounds, key=lambda one: one.stalled or 0.0)[: plan.least]
    return calmest, len(calm), True


@contextmanager
def _no_garbage_collection():
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
