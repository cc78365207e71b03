"""What the charts of a watch report share: time and severities."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from .._page import plain_spec
from ._runs import Run

__all__ = [
    "CUT",
    "SEVERITIES",
    "chart",
    "colour_of",
    "drawn",
    "extent",
    "named",
    "severity_colour",
    "severity_shape",
    "time",
    "words",
]

SEVERITIES = {"error": "#d1383d", "warning": "#b87a00", "info": "#2f7fd6"}
_SHAPES = {"error": "diamond", "warning": "triangle-up", "info": "circle"}
_NORMALISED = ("#2f7fd6", "#2a9463")
_PLAIN = ("#c9590c", "#a0509a")


def chart(name: str) -> Any:
    """A chart of rows that :func:`drawn` is given by this name.

    Altair checks every row that it is given against a schema, ten times slower than drawing it.
    """
    data: Any = alt.NamedData(name=name)
    return alt.Chart(data)


def drawn(chart: Any, height: int, **rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Vega-Lite of a chart as wide as its place, with its rows."""
    return plain_spec(chart.properties(width="container", height=height)) | {"datasets": rows}


def extent(runs: Sequence[Run]) -> list[int]:
    """First and last step of all runs: every chart has the same time axis."""
    ends = [run.first_and_last for run in runs]
    last = max((span.end for run in runs for span in run.spans), default=1)
    return [min(first for first, _ in ends), max(last, *(end for _, end in ends))]


def time(field: str, domain: Sequence[int]) -> alt.X:
    """The axis of training steps."""
    axis = alt.Axis(tickCount=5, format=",d", labelFlush=True, grid=False)
    scale = alt.Scale(domain=list(domain), nice=False)
    return alt.X(f"{field}:Q", title="training step", scale=scale, axis=axis)


def named(chart: Any) -> Any:
    """The chart, whose axis of places cuts long names at the front; the page says where."""
    return chart.add_params(alt.param(name="letters", value=28))


CUT = "truncate({}, letters, 'left')"
"""Vega's expression for a name of a place on such an axis."""


def severity_colour() -> alt.Color:
    """Errors, warnings and notes by colour."""
    scale = alt.Scale(domain=list(SEVERITIES), range=list(SEVERITIES.values()))
    return alt.Color("severity:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def severity_shape() -> alt.Shape:
    """The same by shape, for those who see no colours."""
    scale = alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values()))
    return alt.Shape("severity:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def colour_of(run: Run, runs: Sequence[Run]) -> str:
    """Blue and green with batch norm, orange and purple without."""
    alike = [other for other in runs if other.normalised == run.normalised]
    colours = _NORMALISED if run.normalised else _PLAIN
    return colours[alike.index(run) % len(colours)]


def words(path: str) -> str:
    """A place in a sentence; the model itself has the empty path."""
    return path or "the model"
