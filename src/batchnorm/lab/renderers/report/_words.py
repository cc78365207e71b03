"""What charts show, in words and tables."""

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from ..._chart import Axis
from ..._series import Panel, Picture, Series
from ...words import number, percent
from .._table import Table

__all__ = ["described", "numbers", "written"]

FEW = 10
"""Rows of a table of a chart with a numeric axis."""
NOTHING = "—"
KINDS = {
    "lines": "Line chart",
    "bars": "Bar chart",
    "points": "Chart of points",
    "heat": "Heat map",
    "bands": "Band chart",
}


def written(axis: Axis) -> Callable[[float | None], str]:
    """How the numbers of an axis are written."""
    write = percent if "%" in axis.format else number

    return lambda value: NOTHING if value is None else write(value)


def described(picture: Picture, panel: Panel, place: str) -> str:
    """A panel for those who do not see it, with its numbers.

    Args:
        picture: the chart.
        panel: part of it.
        place: the data and what else sets the panel apart, in words.
    """
    chart = picture.chart
    measured = chart.value or chart.y
    what = f"{KINDS[chart.mark]} of {measured.title} by {chart.x.title}, {place}."
    tell = _extremes if chart.mark == "heat" else _ends if _is_curve(picture) else _each

    return " ".join([what, *tell(panel, chart.x, written(measured))])


def _is_curve(picture: Picture) -> bool:
    return picture.chart.mark in ("lines", "bands")


def _ends(panel: Panel, x: Axis, write: Callable[[float | None], str]) -> Iterator[str]:
    for one in panel.series:
        yield (
            f"{one.label}: {write(one.mean[0])} at {_place(one.x[0], x)}, {write(one.mean[-1])} at "
            f"{_place(one.x[-1], x)}."
        )


def _each(panel: Panel, x: Axis, write: Callable[[float | None], str]) -> Iterator[str]:
    for one in panel.series:
        chosen = _few(one.x)
        points = (f"{write(one.mean[i])} at {_place(one.x[i], x)}" for i in chosen)
        yield f"{one.label}: {', '.join(points)}."


def _extremes(panel: Panel, x: Axis, write: Callable[[float | None], str]) -> Iterator[str]:
    cells = [
        (value, one.label, place)
        for one in panel.series
        for place, value in zip(one.x, one.mean, strict=True)
        if value is not None
    ]
    for name, choose in (("Lowest", min), ("Highest", max)):
        value, row, place = choose(cells, key=itemgetter(0))
        yield f"{name}: {write(value)} at {_place(place, x)}, {row}."


def _place(x: float | str, axis: Axis) -> str:
    return x if isinstance(x, str) else written(axis)(x)


def numbers(picture: Picture, panel: Panel, place: str) -> Table:
    """The numbers of a panel: all on an ordinal axis, some along a numeric one."""
    chart = picture.chart
    caption = f"{chart.title}: {place}"
    if chart.mark == "heat":
        head = [chart.y.title, *picture.order]
        rows = [[one.label, *_cells(picture, one, picture.order)] for one in panel.series]
        return Table(caption, head, rows)
    places = picture.order or sorted({x for one in panel.series for x in one.x})
    if not picture.order:
        places = [places[i] for i in _few(places)]
    columns = [_cells(picture, one, places) for one in panel.series]
    rows = [
        [_place(x, chart.x), *cells]
        for x, *cells in zip(places, *columns, strict=True)
        if set(cells) != {NOTHING}
    ]

    return Table(caption, [chart.x.title, *(one.label for one in panel.series)], rows)


def _cells(picture: Picture, one: Series, places: Sequence[float | str]) -> list[str]:
    write = written(picture.chart.value or picture.chart.y)
    ranks = {x: i for i, x in enumerate(one.x)}

    return [_cell(one, ranks.get(x), write) for x in places]


def _cell(one: Series, place: int | None, write: Callable[[float | None], str]) -> str:
    if place is None or one.mean[place] is None:
        return NOTHING
    low, mean, high = (write(values[place]) for values in (one.low, one.mean, one.high))

    return mean if low == mean == high else f"{mean} ({low} to {high})"


def _few(places: Sequence[float | str]) -> list[int]:
    """Both ends and some between."""
    last = len(places) - 1
    steps = min(last, FEW - 1)

    return [round(i * last / steps) for i in range(steps + 1)] if steps else [0]
