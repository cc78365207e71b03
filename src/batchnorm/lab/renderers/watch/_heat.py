"""Heat maps: one quantity of all places over time, all runs in the same colours."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

import altair as alt

from .._page import Figure, plain_spec
from .._table import Table
from ._parts import CUT, chart, extent, named, number, time, words
from ._quantities import Shown
from ._runs import Cell, Run

__all__ = ["heat_maps", "idle"]

ROW, LEAST, MOST = 18, 60, 1100
WIDE = 10
"""From this ratio of largest to smallest on, colours are logarithmic."""


def idle(shown: Shown, runs: Sequence[Run]) -> float | None:
    """The number that a quantity has everywhere and always, which needs no chart."""
    values = {cell.value for run in runs for cell in run.cells(shown.name, shown.choose)}
    return values.pop() if len(values) == 1 else None


def heat_maps(shown: Shown, runs: Sequence[Run]) -> Iterator[Figure]:
    """One chart per run that measured it."""
    cells = {run.key: run.cells(shown.name, shown.choose) for run in runs}
    values = sorted(cell.value for found in cells.values() for cell in found)
    if not values or values[0] == values[-1]:
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
                plain_spec(_drawn(shown, run, found, scale, extent(runs))),
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
    floor = scale["domain"][0] if scale["type"] == "log" else None
    rows = [_row(cell, floor, domain[1]) for cell in cells]
    title = shown.unit or None
    base = chart(rows).encode(y=_places(paths))
    legend = alt.Legend(
        title=title, orient="top", format=".2~g", gradientLength=180, gradientThickness=10
    )
    boxes = base.mark_rect().encode(
        x=time("start", domain),
        x2="end:Q",
        color=alt.Color("shade:Q", scale=alt.Scale(**scale), legend=legend),
        tooltip=[
            alt.Tooltip("path:N", title="layer"),
            alt.Tooltip("start:Q", title="step", format=","),
            alt.Tooltip("value:Q", title=shown.title, format=".4~g"),
        ],
    )
    layers = [boxes, *_marks(shown, run, paths, domain)]

    return named(alt.layer(*layers)).properties(width="container", height=_height(len(paths)))


def _row(cell: Cell, floor: float | None, last: int) -> dict[str, Any]:
    value = float(f"{cell.value:.4g}")
    shade = value if floor is None else max(value, floor)
    start, after = cell.span.start, cell.span.end
    # A little below its neighbour: browsers leave seams between boxes that only touch.
    end = min(last, after + (after - start) / 8)
    return {"path": words(cell.path), "start": start, "end": end, "value": value, "shade": shade}


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


def _marks(shown: Shown, run: Run, paths: list[str], domain: Sequence[int]) -> Iterator[Any]:
    """Crosses where values were not finite, triangles at the first alert of a kind."""
    side = shown.name.split("_")[0]
    if side in ("in", "out") and not shown.name.endswith("nonfinite"):
        bad = run.cells(f"{side}_nonfinite", max)
        crosses = [_point(c.path, (c.span.start + c.span.end) / 2) for c in bad if c.value > 0]
        yield from _points(crosses, "cross", "#d1383d", ["path:N"], paths, domain)
    alerts = [
        _point(row["path"], row["step"]) | {"alert": f"{row['code']} {row['name']}"}
        for row in run.first_alerts
    ]
    yield from _points(alerts, "triangle-up", "#111111", ["path:N", "alert:N"], paths, domain)


def _point(path: str, step: float) -> dict[str, Any]:
    return {"path": words(path), "step": step}


def _points(
    rows: list[dict[str, Any]],
    shape: str,
    fill: str,
    tooltip: list[str],
    paths: list[str],
    domain: Sequence[int],
) -> Iterator[Any]:
    there = [row for row in rows if row["path"] in {words(path) for path in paths}]
    if there:
        mark = chart(there).mark_point(
            shape=shape, fill=fill, stroke="#ffffff", strokeWidth=1.2, size=75, opacity=1
        )
        yield mark.encode(x=time("step", domain), y=_places(paths), tooltip=tooltip)


def _height(places: int) -> int:
    return max(LEAST, min(MOST, ROW * places))


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
        f"Heat map of {len(series)} layers over steps {first:,} to {last:,}. {shown.title}, median "
        f"of the layers: {number(start)} at first, {number(end)} at the end. Farthest from zero: "
        f"{number(top.value)} at {words(top.path)}, step {top.span.start:,}."
    )


def _table(title: str, cells: Iterable[Cell]) -> Table:
    rows = []
    for path, found in _series(cells).items():
        values = [cell.value for cell in found]
        shown = (values[0], median(values), values[-1], min(values), max(values))
        rows.append([words(path), *map(number, shown)])

    return Table(title, ["layer", "first", "median", "last", "smallest", "largest"], rows)
