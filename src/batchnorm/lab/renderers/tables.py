"""Tables of figure 1 as plain rows of text: every renderer shows the same ones."""

from collections.abc import Sequence

from ..demo import Result
from ..experiments._figure1_result import ArmCurve, highest_rates
from ..words import count, plus_minus, power, rate
from ._table import Table

__all__ = ["Table", "accuracy", "agreement", "highest", "percentiles", "summary", "sweep"]

MILESTONES = 8


def accuracy(result: Result) -> Table:
    """Test accuracy at a few of the evaluated steps."""
    arms = list(result.arms.values())
    steps = arms[0].steps
    return Table(
        f"Test accuracy over steps, mean ± standard deviation of {result.config.seeds} seeds",
        ["step", *(arm.label for arm in arms)],
        [
            [count(steps[i]), *(plus_minus(arm.accuracy[i]) for arm in arms)]
            for i in _milestones(steps)
        ],
    )


def _milestones(steps: Sequence[int]) -> list[int]:
    """Indices of steps at about equal distances on a logarithmic scale, both ends included."""
    first, last = steps[0], steps[-1]
    wanted = [first * (last / first) ** (i / (MILESTONES - 1)) for i in range(MILESTONES)]
    return sorted({min(range(len(steps)), key=lambda i: abs(steps[i] - w)) for w in wanted})


def summary(result: Result) -> Table:
    """One row per arm."""
    return Table(
        f"Curves at learning rate {rate(result.config.lr)}, {result.config.seeds} seeds",
        [
            "network",
            "final test accuracy",
            "steps to the plain net’s final accuracy",
            "highest rate that trains",
            "processor ms per step",
        ],
        [
            [
                arm.label,
                plus_minus(arm.final),
                _reach(arm),
                highest(result, arm.name),
                f"{arm.step_ms:.2f}",
            ]
            for arm in result.arms.values()
        ],
    )


def _reach(arm: ArmCurve) -> str:
    """Steps to the plain net's final accuracy: median and range over seeds."""
    reached = sorted(step for step in arm.reach if step is not None)
    if not reached:
        return "never"
    missed = len(arm.reach) - len(reached)
    never = f", {missed} never" if missed else ""
    return f"{count(reached[len(reached) // 2])} ({count(reached[0])}–{count(reached[-1])}{never})"


def highest(result: Result, name: str) -> str:
    """The highest learning rate that trains: median over seeds and range."""
    if not any(row.arm == name for row in result.sweep):
        return "not swept"
    rates = sorted(lr for lr in highest_rates(result.sweep, name) if lr is not None)
    if not rates:
        return "none of the grid"
    top = "≥ " if rates[-1] == max(row.lr for row in result.sweep) else ""
    return f"{top}{rate(rates[len(rates) // 2])} ({rate(rates[0])}–{rate(rates[-1])})"


def sweep(result: Result) -> Table:
    """The sweep over learning rates."""
    arms = [arm for arm in result.arms.values() if any(r.arm == arm.name for r in result.sweep)]
    cells = {
        (row.arm, row.lr): [f"{sum(row.trains)} of {len(row.trains)}", plus_minus(row.accuracy)]
        for row in result.sweep
    }
    return Table(
        f"After {count(result.config.sweep_steps)} steps at each learning rate: "
        "seeds that train, and test accuracy",
        ["rate", *(head for arm in arms for head in (f"{arm.label}: trains", "accuracy"))],
        [
            [rate(lr), *(cell for arm in arms for cell in cells[arm.name, lr])]
            for lr in sorted({row.lr for row in result.sweep})
        ],
    )


def percentiles(result: Result, name: str) -> Table:
    """Percentiles of one unit's input at a few of the evaluated steps."""
    arm = result.arms[name]
    steps = arm.steps[: len(arm.percentiles)]
    return Table(
        f"Input of the sigmoid, {arm.label}, seed 0",
        ["step", "15th", "50th", "85th"],
        [[count(steps[i]), *(f"{v:.2f}" for v in arm.percentiles[i])] for i in _milestones(steps)],
    )


def agreement(result: Result) -> Table:
    """Relative differences of training losses at a few early steps."""
    check = result.agreement
    return Table(
        "Largest relative difference of training losses over seeds",
        ["step", "ours against torch’s", "torch’s, weights nudged"],
        [
            [count(i + 1), power(check.ours[i]), power(check.nudged[i])]
            for i in _milestones(range(1, len(check.ours) + 1))
        ],
    )
