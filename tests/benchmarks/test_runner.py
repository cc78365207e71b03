"""The runner on a clock and a pressure counter that the test turns: no real time passes."""

import gc

import pytest

from benchmarks.runner import Plan, Quartiles, Side, measure, quartiles


class Machine:
    """A clock in nanoseconds and the microseconds that tasks have waited."""

    def __init__(self):
        self.now = 0
        self.waited = 0.0
        self.log: list[str] = []

    def clock(self) -> int:
        return self.now

    def pressure(self) -> int:
        return int(self.waited)

    def side(self, name, milliseconds, *, stall=lambda call: 0.0, phases=("total",)) -> Side:
        """Takes ``milliseconds`` a call, one number a phase; ``stall(call)`` is a share of it."""
        count = 0

        def call():
            nonlocal count
            count += 1
            self.log.append(name)
            spent = tuple(int(value * 1e6) for value in milliseconds)
            self.now += sum(spent)
            self.waited += stall(count) * sum(spent) * 1e-3
            return spent

        return Side(name, call, phases)


def run(machine, sides, **options):
    plan = Plan(**{"rounds": 6, "least": 3, "max_rounds": 12, "warm_up": 0, **options})
    return measure(sides, plan, clock=machine.clock, pressure=machine.pressure)


def test_quartiles_are_the_inclusive_ones():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == Quartiles(3.0, 2.0, 4.0)
    assert quartiles([7.0]) == Quartiles(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="at least one value"):
        quartiles([])


def test_calm_machine_gives_the_wanted_rounds_and_drops_none():
    machine = Machine()
    timing = run(machine, [machine.side("a", [2.0]), machine.side("b", [5.0])])
    assert (len(timing.rounds), timing.total, timing.calm, timing.noisy) == (6, 6, 6, False)
    assert timing.values("a") == pytest.approx([2e-3] * 6)
    assert timing.values("b") == pytest.approx([5e-3] * 6)


def test_total_is_the_sum_of_the_phases():
    machine = Machine()
    sides = [machine.side("a", [2.0, 3.0], phases=("forward", "backward"))]
    timing = run(machine, sides)
    assert timing.phases("a") == ["forward", "backward", "total"]
    assert timing.values("a", "total") == pytest.approx([5e-3] * 6)
    assert timing.values("a", "backward") == pytest.approx([3e-3] * 6)


def test_order_of_sides_changes_from_round_to_round():
    machine = Machine()
    sides = [machine.side(name, [10.0]) for name in "abc"]
    run(machine, sides, rounds=6)
    rounds = ["".join(machine.log[3 + 3 * i : 6 + 3 * i]) for i in range(6)]
    assert rounds == ["abc", "acb", "cab", "cba", "bca", "bac"]


def test_order_of_sides_in_the_result_is_the_given_one():
    machine = Machine()
    timing = run(machine, [machine.side(name, [10.0]) for name in "abc"])
    assert all(list(one.seconds) == ["a", "b", "c"] for one in timing.rounds)


def test_rounds_with_stalls_are_dropped_and_counted():
    machine = Machine()
    stalled = machine.side("a", [10.0], stall=lambda call: 0.5 if call % 3 == 0 else 0.0)
    timing = run(machine, [stalled, machine.side("b", [10.0])])
    assert (len(timing.rounds), timing.noisy) == (6, False)
    assert timing.total > timing.calm == 6
    assert all(one.stalled <= 0.02 for one in timing.rounds)


@pytest.mark.parametrize(("share", "calm", "total"), [(0.019, 6, 6), (0.021, 0, 12)])
def test_the_limit_is_two_percent_of_the_wall_time(share, calm, total):
    machine = Machine()
    timing = run(machine, [machine.side("a", [10.0], stall=lambda call: share)])
    assert (timing.calm, timing.total) == (calm, total)


def test_busy_machine_ends_at_the_cap_with_the_calmest_rounds_marked_noisy():
    machine = Machine()
    growing = machine.side("a", [10.0], stall=lambda call: call / 20)
    timing = run(machine, [growing])
    assert (len(timing.rounds), timing.total, timing.calm, timing.noisy) == (3, 12, 0, True)
    assert [one.stalled for one in timing.rounds] == pytest.approx([0.1, 0.15, 0.2])


def test_time_limit_ends_a_row_but_not_before_the_least_rounds():
    machine = Machine()
    timing = run(machine, [machine.side("a", [900.0])], seconds=1.0)
    assert len(timing.rounds) == 3
    assert not timing.noisy


def test_without_a_pressure_counter_every_round_counts():
    machine = Machine()
    timing = measure(
        [machine.side("a", [10.0])],
        Plan(rounds=4, warm_up=0),
        clock=machine.clock,
        pressure=lambda: None,
    )
    assert (len(timing.rounds), timing.calm) == (4, 4)
    assert {one.stalled for one in timing.rounds} == {None}


def test_fast_sides_are_called_until_a_block_is_long_enough():
    machine = Machine()
    sides = [machine.side("fast", [0.01]), machine.side("slow", [50.0])]
    timing = run(machine, sides, block_seconds=0.004)
    assert timing.calls == {"fast": 400, "slow": 1}


def test_one_slow_call_in_a_block_does_not_move_its_median():
    machine = Machine()
    steady = machine.side("a", [1.0])
    calls = 0

    def call():
        nonlocal calls
        calls += 1
        return (40_000_000,) if calls % 4 == 0 else steady.call()

    timing = run(machine, [Side("a", call)])
    assert timing.values("a") == pytest.approx([1e-3] * 6)


def test_garbage_collection_is_back_when_a_side_raises():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure([Side("a", broken)])
    assert gc.isenabled()


def test_after_round_runs_between_rounds():
    machine = Machine()
    seen = []
    measure(
        [machine.side("a", [10.0])],
        Plan(rounds=3, warm_up=0),
        clock=machine.clock,
        pressure=machine.pressure,
        after_round=lambda: seen.append(len(machine.log)),
    )
    assert seen == [2, 3, 4]
