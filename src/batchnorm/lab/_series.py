"""From trials to the numbers of a chart: series of means and ranges over seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from .._errors import explain
from ._chart import Chart

__all__ = ["POINTS", "Panel", "Picture", "Series", "picture", "spaced", "thinned"]

POINTS = 100
"""Of a series: more are finer than a screen and make the page heavy."""
DIGITS = 4
NAMED = ("bars", "heat")
"""Marks whose horizontal axis is ordinal, whatever is said."""


@dataclass(frozen=True)
class Series:
    """A line, the bars or points of one colour, or a row of a heat map.

    Args:
        label: its name.
        x: where the numbers are: numbers, or names on an ordinal axis.
        mean: over seeds; None where it is not finite. The middle of bands.
        low: lowest seed, or the lower end of bands.
        high: highest seed, or the upper end.
    """

    label: str
    x: tuple[Any, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class Panel:
    """One of the small charts that a chart consists of.

    Args:
        dataset: its name.
        column: what else sets it apart; "" if nothing does.
        series: in the order of their names.
    """

    dataset: str
    column: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Picture:
    """A chart with its numbers.

    Args:
        chart: what was declared.
        names: of all series, in order; all arms, even if some have nothing to show, so that an arm
            has one colour in all charts of its experiment.
        order: of an ordinal horizontal axis; else empty.
        panels: by dataset, then by column.
    """

    chart: Chart
    names: tuple[str, ...]
    order: tuple[str, ...]
    panels: tuple[Panel, ...]


def picture(chart: Chart, trials: pl.DataFrame, arms: Mapping[str, str]) -> Picture:
    """The numbers of `chart`.

    Args:
        chart: what is wanted.
        trials: a row each.
        arms: label by name.

    Raises:
        ValueError: the chart names a column that its rows have not, or that is no number.
    """
    datasets = trials["dataset"].unique(maintain_order=True).to_list()
    try:
        tidy = pl.concat(
            [_tidy(chart, trials.filter(dataset=name), name) for name in datasets],
            how="vertical_relaxed",
        )
    except pl.exceptions.PolarsError as error:
        rule = "rows must have the columns that it names, numbers where it measures"
        cure = "See its x, y, colour, columns, value and rows"
        got = str(error).splitlines()[0]
        raise ValueError(explain(f"chart '{chart.key}'", rule, got, cure)) from None

    named = chart.x.scale == "ordinal" or chart.mark in NAMED
    columns = _labels(tidy["column"].to_list(), chart.columns, arms)
    field = _series_field(chart)
    names = _labels([*arms] if field == "arm" else tidy["series"].to_list(), field, arms)
    if not any(isinstance(value, str) for value in names):
        names = _numbered(names, chart)
    places = _labels(tidy["x"].to_list(), chart.x.field, arms)
    if not named:
        places = {x: x for x in sorted(x for x in places if x is not None and _drawable(chart, x))}
    found = {(row[:3], row[3]): row[4:] for row in tidy.iter_rows()}
    panels = [
        Panel(
            dataset,
            label,
            tuple(
                _series(chart, found, (dataset, column, value), name, places)
                for value, name in names.items()
            ),
        )
        for dataset in datasets
        for column, label in columns.items()
    ]

    return Picture(
        chart=chart,
        names=tuple(names.values()),
        order=tuple(places.values()) if named else (),
        panels=tuple(kept for panel in panels if (kept := _kept(panel)).series),
    )


def _series_field(chart: Chart) -> str:
    """A heat map's rows are its series."""
    return chart.y.field if chart.mark == "heat" else chart.colour


def _tidy(chart: Chart, trials: pl.DataFrame, dataset: str) -> pl.DataFrame:
    """Columns dataset, column, series, x, mean, low and high; in the order of the rows."""
    rows = chart.rows(trials)
    keys = [
        pl.lit(dataset).alias("dataset"),
        (pl.col(chart.columns) if chart.columns else pl.lit("")).alias("column"),
        pl.col(_series_field(chart)).alias("series"),
        pl.col(chart.x.field).alias("x"),
    ]
    if chart.mark == "bands":
        fields = {"mean": "middle", "low": "low", "high": "high"}
        numbers = [pl.col(name).cast(pl.Float64).alias(f"_{key}") for key, name in fields.items()]
        means = [pl.col(f"_{key}").mean().alias(key) for key in fields]
    else:
        field = chart.value.field if chart.value else chart.y.field
        numbers = [pl.col(field).cast(pl.Float64).alias("_")]
        value = pl.col("_")
        means = [value.mean().alias("mean"), value.min().alias("low"), value.max().alias("high")]

    return (
        rows.select(*keys, *numbers)
        .group_by("dataset", "column", "series", "x", maintain_order=True)
        .agg(*means)
    )


def _labels(values: Iterable[Any], field: str | None, arms: Mapping[str, str]) -> dict[Any, str]:
    """Label by value: arms as the experiment has them, numbers by size, names as they come."""
    found = list(dict.fromkeys(values))
    if field == "arm":
        found.sort(key=list(arms).index)
        return {arm: arms[str(arm)] for arm in found}
    labels = list(arms.values())
    if all(value in labels for value in found):
        found.sort(key=labels.index)
    elif all(isinstance(value, int | float | None) for value in found):
        found.sort(key=lambda value: (value is None, value))

    return {value: _words(value) for value in found}


def _numbered(names: dict[Any, str], chart: Chart) -> dict[Any, str]:
    """Names that are numbers: upwards on the axis of a heat map, else with what they count."""
    if chart.mark == "heat":
        return dict(reversed(names.items()))

    return {value: f"{spaced(chart.colour)} {name}" for value, name in names.items()}


def spaced(field: str) -> str:
    """A column in words."""
    return field.replace("_", " ")


def _words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _drawable(chart: Chart, x: float) -> bool:
    """A logarithmic axis has no place for zero."""
    return math.isfinite(x) and (x > 0 or chart.x.scale != "log")


def _series(
    chart: Chart,
    found: Mapping[Any, tuple[float | None, ...]],
    key: tuple[object, ...],
    name: str,
    places: Mapping[Any, Any],
) -> Series:
    points = [(label, *found[key, x]) for x, label in places.items() if (key, x) in found]
    log = (chart.value or chart.y).scale == "log"
    if chart.x.scale != "ordinal":
        points = [*thinned(points, POINTS)]
    points = [(x, *(_short(number, log) for number in numbers)) for x, *numbers in points]
    x, mean, low, high = zip(*points, strict=True) if points else ((), (), (), ())

    return Series(name, x, mean, low, high)


def thinned(points: Sequence[Any], most: int) -> Sequence[Any]:
    """About `most` of them, the first and the last among them."""
    every = -(-len(points) // most) or 1

    return [*points[:-1:every], *points[-1:]]


def _short(value: float | None, log: bool) -> float | None:
    """With few digits; None for what an axis has no place for."""
    if value is None or not math.isfinite(value) or (log and value <= 0):
        return None

    return float(f"{value:.{DIGITS}g}")


def _kept(panel: Panel) -> Panel:
    """Without series that have no number."""
    shown = (one for one in panel.series if any(value is not None for value in one.mean))

    return Panel(panel.dataset, panel.column, tuple(shown))
