"""Heat maps: one quantity of all places over time, all runs in the same colours."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

import altair as alt

from ...words import many, number
from .._page import Figure
from .._table import Table
from ._parts import CUT, chart, drawn, extent, named, time, words
from ._quantities import Shown
from ._runs import Cell, Run

__all__ = ["heat_maps", "idle"]

ROW, LEAST, MOST = 18, 60, 1100
WIDE = 10
"""From this ratio of largest to smallest on, colours are logarithmic."""


def idle(shown: Shown, runs: Sequence[Run]) -> float | None:
    """The number that a quantity has everywhere and always, which needs no chart."""
    values = [cell.value for run in runs for cell in run.cells(shown.name, shown.choose)]
    return values[0] if values and _alike(min(values), max(values)) else None


def _alike(low: float, high: float) -> bool:
    return high - low <= 1e-3 * max(abs(low), abs(high))


def heat_maps(shown: Shown, runs: Sequence[Run]) -> Iterator[Figure]:
    """One chart per run that measured it."""
    cells = {run.key: run.cells(shown.name, shown.choose) for run in runs}
    values = sorted(cell.value for found in cells.values() for cell in found)
    if not values or _alike(values[0], values[-1]):
        return
    scale = _scale(shown, values)
    for run in runs:
        if found := cells[run.key]:
            title = shown.title if len(runs) == 1 else f"{shown.title}: {run.title}"
            yield Figure(
                f"{shown.name}-{run.key}",
                title,
                _caption(shown, run, values, scale),
                _alt(shown, found),
                _drawn(shown, run, found, scale, extent(runs)),
                _table(title, found),
                renderer="canvas",
            )


def _scale(shown: Shown, values: Sequence[float]) -> dict[str, Any]:
    """Domain and kind of the colours; a few outliers do not take them from all others."""
    if shown.colours == "signed":
        sizes = sorted(map(abs, values))
        end = _high(sizes) or sizes[-1]
        return {"type": "linear", "domain": [-end, end], "scheme": "blueorange", "clamp": True}

    positive = [value for value in values if value > 0]
    if positive and values[0] >= 0 and positive[-1] / positive[0] > WIDE:
        domain = [positive[0], positive[-1]]
        return {"type": "log", "domain": domain, "scheme": "viridis", "clamp": True}

    return {"type": "linear", "domain": [values[0], values[-1]], "scheme": "viridis", "clamp": True}


def _high(ordered: Sequence[float]) -> float:
    return ordered[int(0.98 * (len(ordered) - 1))]


def _drawn(
    shown: Shown, run: Run, cells: list[Cell], scale: dict[str, Any], domain: Sequence[int]
) -> Any:
    paths = list(dict.fromkeys(cell.path for cell in cells))
    legend = alt.Legend(
        title=shown.unit or None,
        orient="top",
        format=".2~g",
        gradientLength=180,
        gradientThickness=10,
    )
    boxes = (
        chart("cells")
        .mark_rect()
        .encode(
            x=time("s", domain),
            x2="e:Q",
            y=_places(paths),
            color=alt.Color("shade:Q", scale=alt.Scale(**scale), legend=legend),
            tooltip=[
                alt.Tooltip("path:N", title="layer"),
                alt.Tooltip("s:Q", title="step", format=","),
                alt.Tooltip("v:Q", title=shown.title, format=".4~g"),
            ],
        )
    )
    # Zero has no logarithm: it gets the colour of the smallest.
    floor = scale["domain"][0] if scale["type"] == "log" else None
    shade = "datum.v" if floor is None else f"max(datum.v, {floor})"
    boxes = boxes.transform_calculate(shade=shade)
    marks = _marks(shown, run, paths)
    layers = [boxes, *(_points(name, paths, domain) for name, found in marks.items() if found)]
    height = max(LEAST, min(MOST, ROW * len(paths)))

    return drawn(
        named(alt.layer(*layers)), height, cells=[_row(cell, domain[1]) for cell in cells], **marks
    )


def _row(cell: Cell, last: int) -> dict[str, Any]:
    """Names of one letter: there are tens of thousands of rows in a page."""
    start, after = cell.span.start, cell.span.end
    # A little below its neighbour: browsers leave seams between boxes that only touch.
    end = min(last, after + (after - start) / 8)
    return {"path": words(cell.path), "s": start, "e": end, "v": float(f"{cell.value:.4g}")}


def _places(paths: Iterable[str]) -> alt.Y:
    axis = alt.Axis(
        title=None,
        ticks=False,
        domain=False,
        grid=False,
        labelExpr=CUT.format("datum.label"),
        labelLimit=0,
        labelOverlap="greedy",
        labelPadding=6,
    )
    return alt.Y("path:N", sort=[words(path) for path in paths], axis=axis)


def _marks(shown: Shown, run: Run, paths: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Crosses where values were not finite, triangles at the first alert of a kind."""
    side = shown.name.split("_")[0]
    bad: list[Cell] = []
    if side in ("in", "out") and not shown.name.endswith("nonfinite"):
        bad = [cell for cell in run.cells(f"{side}_nonfinite", max) if cell.value > 0]
    crosses = [
        {"path": words(cell.path), "step": (cell.span.start + cell.span.end) / 2}
        for cell in bad
        if cell.path in paths
    ]
    triangles = [
        {"path": words(row["path"]), "step": row["step"], "alert": f"{row['code']} {row['name']}"}
        for row in run.first_alerts
        if row["path"] in paths
    ]
    return {"crosses": crosses, "triangles": triangles}


def _points(name: str, paths: list[str], domain: Sequence[int]) -> Any:
    crosses = name == "crosses"
    mark = chart(name).mark_point(
        shape="cross" if crosses else "triangle-up",
        fill="#d1383d" if crosses else "#111111",
        stroke="#ffffff",
        strokeWidth=1.2,
        size=75,
        opacity=1,
    )
    tooltip = ["path:N"] if crosses else ["path:N", "alert:N"]
    return mark.encode(x=time("step", domain), y=_places(paths), tooltip=tooltip)


def _caption(shown: Shown, run: Run, values: Sequence[float], scale: dict[str, Any]) -> str:
    unit = f" ({shown.unit})" if shown.unit and shown.unit not in shown.text else ""
    said = [f"{shown.text[0].upper()}{shown.text[1:]}{unit}."]
    rows = max(span.rows for span in run.spans)
    if rows > 1:
        said.append(f"Each cell shows the {shown.chosen} of up to {rows} recorded steps.")
    if scale["type"] == "log":
        said.append("Colours are logarithmic.")
    low, high = scale["domain"]
    if values[-1] > high or values[0] < low:
        said.append("The strongest colours also stand for the 2 % that lie beyond.")

    return " ".join(said)


def _series(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.path, []).append(cell)

    return found


def _alt(shown: Shown, cells: list[Cell]) -> str:
    series = _series(cells).values()
    first, last = min(c.span.start for c in cells), max(c.span.start for c in cells)
    start, end = (median(found[i].value for found in series) for i in (0, -1))
    top = max(cells, key=lambda cell: abs(cell.value))

    return (
        f"Heat map of {many(len(series), 'layer')} over steps {first:,} to {last:,}. "
        f"{shown.title}, median of the layers: {number(start)} at first, {number(end)} at the end. "
        f"Farthest from zero: {number(top.value)} at {words(top.path)}, step {top.span.start:,}."
    )


def _table(title: str, cells: Iterable[Cell]) -> Table:
    rows = []
    for path, found in _series(cells).items():
        values = [cell.value for cell in found]
        shown = (values[0], median(values), values[-1], min(values), max(values))
        rows.append([words(path), *map(number, shown)])

    return Table(title, ["layer", "first", "median", "last", "smallest", "largest"], rows)
