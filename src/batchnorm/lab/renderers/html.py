"""The report: one HTML file that opens without a network, on a phone, in the light and the dark."""

from collections.abc import Iterable
from pathlib import Path

from ..demo import Result
from ..words import count, plus_minus, power, rate
from . import charts, tables
from ._page import Figure, assemble, plain_spec
from .console import MARKS

__all__ = ["Figure", "figures", "render", "write_html"]


def figures(result: Result) -> dict[str, Figure]:
    """All charts of the report, by key."""
    return {figure.key: figure for figure in _figures(result)}


def _figures(result: Result) -> Iterable[Figure]:
    seeds, lr = result.config.seeds, rate(result.config.lr)
    plain, ours = result.arms["plain"], result.arms["batchnorm"]
    yield Figure(
        "accuracy",
        "Test accuracy",
        f"Mean of {seeds} seeds at learning rate {lr}; the band reaches from the lowest to the "
        "highest seed. Where the two batch norm layers agree, one lies on top of the other.",
        f"Line chart of test accuracy over {count(result.config.curve_steps)} training steps. It "
        f"ends at {plus_minus(plain.final)} without batch norm and at {plus_minus(ours.final)} "
        "with it.",
        plain_spec(charts.accuracy(result)),
        tables.accuracy(result),
    )
    for arm, title in ((plain, "Without batch norm"), (ours, "With batch norm")):
        low, middle, high = arm.percentiles[-1]
        first = arm.percentiles[0]
        yield Figure(
            f"percentiles-{arm.name}",
            title,
            "15th, 50th and 85th percentile over the test set of what enters the first sigmoid of "
            "the last hidden layer, seed 0. Both charts have the same vertical scale.",
            f"Band chart of three percentiles over training steps, {arm.label}. From 15th "
            f"{first[0]:.2f}, 50th {first[1]:.2f} and 85th {first[2]:.2f} at step {arm.steps[0]} "
            f"to {low:.2f}, {middle:.2f} and {high:.2f} at the end.",
            plain_spec(charts.percentiles(result, arm.name)),
            tables.percentiles(result, arm.name),
        )
    yield Figure(
        "sweep",
        "Accuracy by learning rate",
        f"Test accuracy after {count(result.config.sweep_steps)} steps: mean of {seeds} seeds, "
        "vertical lines from the lowest to the highest seed.",
        "Line chart of test accuracy against learning rate. Highest rate that trains, median and "
        f"range over seeds: {tables.highest(result, 'plain')} without batch norm, "
        f"{tables.highest(result, 'batchnorm')} with it.",
        plain_spec(charts.sweep(result)),
        tables.sweep(result),
    )
    check = result.agreement
    yield Figure(
        "agreement",
        "Difference of the training losses",
        "Largest relative difference over seeds between training losses, from the same weights on "
        "the same batches. The dashed line is what one rounding of the starting weights does to "
        "torch’s own layer.",
        f"Line chart of relative loss differences over the first {len(check.ours)} steps: at most "
        f"{power(max(check.ours))} between the layers, at most {power(max(check.nudged))} between "
        "torch’s layer and itself with nudged weights.",
        plain_spec(charts.agreement(result)),
        tables.agreement(result),
    )


def render(result: Result) -> str:
    """The page."""
    shown = figures(result).values()
    summary = tables.summary(result)
    return assemble("report.html.j2", shown, result=result, summary=summary, marks=MARKS)


def write_html(result: Result, path: Path) -> None:
    """Write :func:`render`'s page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(result), encoding="utf-8")
