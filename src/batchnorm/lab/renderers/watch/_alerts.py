"""Alerts and the numbers of your own, on the time line."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from ...words import many, number
from .._page import Figure
from .._table import Table
from ._parts import (
    SEVERITIES,
    chart,
    colour_of,
    drawn,
    extent,
    severity_colour,
    severity_shape,
    time,
    words,
)
from ._runs import Run

__all__ = ["alert_lines", "alert_table", "constants", "said", "scalars"]

ROW = 34
POINTS = 300
WIDE = 1000
"""From this ratio of largest to smallest on, a scale is logarithmic."""


def said(run: Run) -> str:
    """The alerts of a run in a sentence."""
    alerts = run.recording.alerts
    if not alerts:
        return f"{run.title}: no alert."
    counts = [
        f"{n} info" if severity == "info" else many(n, severity)
        for severity in SEVERITIES
        if (n := sum(row["severity"] == severity for row in alerts))
    ]
    first = min(alerts, key=lambda row: row["step"])

    return (
        f"{run.title}: {', '.join(counts)}; the first at step {first['step']:,}, {first['code']} "
        f"{first['name']} at {words(first['path'] or '')}."
    )


def alert_lines(runs: Sequence[Run]) -> Iterator[Figure]:
    """When which rule spoke, one chart per run that has alerts."""
    for run in runs:
        if run.recording.alerts:
            yield Figure(
                f"alerts-{run.key}",
                f"Alerts: {run.title}" if len(runs) > 1 else "Alerts over time",
                "Each mark is one alert; which layer, and what to do, is in the table below.",
                f"Time line of {many(len(run.recording.alerts), 'alert')}. {said(run)}",
                _timeline(run, extent(runs)),
                None,
            )


def _timeline(run: Run, domain: Sequence[int]) -> dict[str, Any]:
    rows = [
        {
            "rule": f"{row['code']} {row['name']}",
            "step": row["step"],
            "severity": row["severity"],
            "layer": words(row["path"] or ""),
            "message": row["message"],
            "remedy": row["remedy"] or "",
        }
        for row in run.recording.alerts
    ]
    rules = sorted({row["rule"] for row in rows})
    axis = alt.Axis(title=None, grid=True, ticks=False, domain=False)
    tooltip = [alt.Tooltip("step:Q", format=",")]
    tooltip += [alt.Tooltip(f"{name}:N") for name in ("severity", "layer", "message", "remedy")]
    marks = (
        chart("alerts")
        .mark_point(filled=True, size=110, opacity=0.85)
        .encode(
            x=time("step", domain),
            y=alt.Y("rule:N", sort=rules, axis=axis),
            color=severity_colour(),
            shape=severity_shape(),
            tooltip=tooltip,
        )
    )
    return drawn(marks, ROW * (len(rules) + 1), alerts=rows)


def alert_table(run: Run) -> Table:
    """The first alert of each rule at each layer, with its remedy."""
    counts: dict[tuple[str, str], int] = {}
    for row in run.recording.alerts:
        place = row["code"], row["path"] or ""
        counts[place] = counts.get(place, 0) + 1
    rows = [
        [
            f"{row['code']} {row['name']}",
            row["severity"],
            words(row["path"] or ""),
            f"{row['step']:,}",
            str(counts[row["code"], row["path"] or ""]),
            row["message"],
            row["remedy"] or "",
            _measured(row["measured"]),
        ]
        for row in run.first_alerts
    ]
    head = ["rule", "severity", "layer", "first at", "times", "what", "remedy", "measured"]

    return Table(f"Alerts: {run.title}", head, rows)


def _measured(text: str | None) -> str:
    """``{"share": 0.25}`` as ``share 0.25``; what cannot be read stays as it is."""
    try:
        found = json.loads(text or "{}")
        return ", ".join(f"{name} {_value(value)}" for name, value in found.items())
    except (ValueError, AttributeError):
        return text or ""


def _value(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)


def constants(runs: Sequence[Run]) -> list[str]:
    """What was logged and never changed, the learning rate perhaps: ``lr: 0.1``."""
    values: dict[str, set[float]] = {}
    for row in (row for run in runs for row in run.recording.scalars):
        if row["value"] is not None:
            values.setdefault(row["name"], set()).add(row["value"])

    return [f"{name}: {number(found.pop())}" for name, found in values.items() if len(found) == 1]


def scalars(runs: Sequence[Run]) -> Iterator[Figure]:
    """The loss and what else was logged: a chart per name, all runs in it, with their alerts."""
    names = dict.fromkeys(row["name"] for run in runs for row in run.recording.scalars)
    for i, name in enumerate(names):
        rows = [row for run in runs for row in _points(run, name)]
        if len({row["value"] for row in rows}) < 2:
            continue
        yield Figure(
            f"scalar-{i}",
            name,
            "Vertical lines are the first alerts of a rule at a layer."
            if any(run.recording.alerts for run in runs)
            else "As it was logged.",
            f"Line chart of {name} over training steps. " + " ".join(_course(rows)),
            _lines(rows, runs, name),
            Table(
                name,
                ["run", "first", "last", "smallest", "largest"],
                [[title, *map(number, found)] for title, found in _summaries(rows).items()],
            ),
        )


def _points(run: Run, name: str) -> list[dict[str, Any]]:
    found = [r for r in run.recording.scalars if r["name"] == name and r["value"] is not None]
    # Every so many of them: a line of more points than pixels only costs time.
    every = -(-len(found) // POINTS) or 1
    kept = [*found[:-1:every], *found[-1:]]
    return [{"run": run.title, "step": row["step"], "value": row["value"]} for row in kept]


def _summaries(rows: list[dict[str, Any]]) -> dict[str, tuple[float, float, float, float]]:
    titles = dict.fromkeys(row["run"] for row in rows)
    values = {title: [row["value"] for row in rows if row["run"] == title] for title in titles}
    return {title: (v[0], v[-1], min(v), max(v)) for title, v in values.items()}


def _course(rows: list[dict[str, Any]]) -> Iterator[str]:
    for title, (first, last, _, _) in _summaries(rows).items():
        yield f"{title}: from {number(first)} to {number(last)}."


def _lines(rows: list[dict[str, Any]], runs: Sequence[Run], name: str) -> dict[str, Any]:
    values = [row["value"] for row in rows]
    log = min(values) > 0 and max(values) / min(values) > WIDE
    scale = alt.Scale(type="log" if log else "linear", zero=False)
    titles = [run.title for run in runs]
    colours = alt.Scale(domain=titles, range=[colour_of(run, runs) for run in runs])
    legend = alt.Legend(title=None, orient="top", labelLimit=320) if len(runs) > 1 else None
    domain = extent(runs)
    line = (
        chart("curves")
        .mark_line(strokeWidth=2)
        .encode(
            x=time("step", domain),
            y=alt.Y("value:Q", title=name, scale=scale, axis=alt.Axis(format=".3~g")),
            color=alt.Color("run:N", scale=colours, legend=legend),
            tooltip=["run:N", alt.Tooltip("step:Q", format=","), alt.Tooltip("value:Q")],
        )
    )
    ticks = [
        {
            "step": row["step"],
            "severity": row["severity"],
            "rule": f"{row['code']} {row['name']}",
            "layer": words(row["path"] or ""),
            "run": run.title,
        }
        for run in runs
        for row in run.first_alerts
    ]
    told = ["run:N", "rule:N", "layer:N", alt.Tooltip("step:Q", format=",")]
    rules = [
        chart("alerts")
        .transform_filter(f"datum.severity == '{severity}'")
        .mark_rule(color=colour, strokeDash=[4, 3], opacity=0.8)
        .encode(x=time("step", domain), tooltip=told)
        for severity, colour in SEVERITIES.items()
        if any(tick["severity"] == severity for tick in ticks)
    ]
    return drawn(alt.layer(*rules, line), 240, curves=rows, alerts=ticks)
