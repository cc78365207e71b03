"""Ridges: mean and standard deviation of every place over time, one above the other."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import altair as alt

from ...words import many, number
from .._page import Figure
from .._table import Table
from ._parts import CUT, chart, colour_of, drawn, extent, named, time, words
from ._runs import Run

__all__ = ["ridges"]

ROW, LEAST, MOST = 50, 160, 1400
OVERLAP = 0.7
"""Half height of the widest band, in distances between two rows."""
WIDE = 12
"""From this ratio of the widest band to the median one on, heights are not linear."""


@dataclass(frozen=True)
class _Band:
    path: str
    step: int
    mean: float
    std: float

    @property
    def reach(self) -> float:
        return max(abs(self.mean - self.std), abs(self.mean + self.std))


def ridges(runs: Sequence[Run]) -> Iterator[Figure]:
    """One chart per run, all in one scale of heights."""
    side, kind, what = _side(runs)
    bands = {run.key: list(_bands(run, side, kind)) for run in runs}
    reaches = [band.reach for found in bands.values() for band in found]
    if not reaches:
        return
    heights, said = _heights(reaches)
    for run in runs:
        if found := bands[run.key]:
            yield Figure(
                f"ridge-{run.key}",
                run.title,
                f"{what} The line is the mean, the band reaches one standard deviation to both "
                f"sides. {said}",
                _alt(what, found),
                _drawn(found, heights, colour_of(run, runs), extent(runs)),
                _table(f"{run.title}: mean ± standard deviation", found),
                renderer="canvas",
            )


def _side(runs: Sequence[Run]) -> tuple[str, str | None, str]:
    """What can be compared: what enters the activations, if every run recorded some."""
    activations = all(
        any(row["kind"] == "activation" and row["in_std"] is not None for row in r.recording.layers)
        for r in runs
    )
    if activations:
        return "in", "activation", "What enters each activation."
    return "out", None, "What leaves each layer."


def _bands(run: Run, side: str, kind: str | None) -> Iterator[_Band]:
    paths = {row["path"] for row in run.recording.layers if kind in (None, row["kind"])}
    stds = {(c.path, c.span): c.value for c in run.cells(f"{side}_std", fmean)}
    for cell in run.cells(f"{side}_mean", fmean):
        std = stds.get((cell.path, cell.span))
        if std is not None and cell.path in paths:
            yield _Band(cell.path, cell.span.start, cell.value, std)


def _heights(reaches: Sequence[float]) -> tuple[Callable[[float], float], str]:
    """From a value to a height in rows, the same for all charts of the report."""
    top, middle = max(reaches) or 1.0, median(reaches)
    if top <= WIDE * middle:
        said = f"Neighbouring zero lines are {number(top / OVERLAP)} apart in every chart."
        return lambda value: OVERLAP * value / top, said

    unit = middle or top
    end = math.asinh(top / unit)
    said = (
        f"Heights are linear up to about {number(unit)} and logarithmic beyond, since one band is "
        f"{number(top / unit)} times as wide as the median one; all charts have the same scale."
    )
    return lambda value: OVERLAP * math.asinh(value / unit) / end, said


def _drawn(
    bands: Iterable[_Band],
    heights: Callable[[float], float],
    colour: str,
    domain: Sequence[int],
) -> dict[str, Any]:
    found = list(bands)
    paths = list(dict.fromkeys(band.path for band in found))
    place = {path: i for i, path in enumerate(paths)}
    base = chart("bands").encode(x=time("step", domain), detail="path:N")
    names = json.dumps([words(path) for path in paths])
    axis = alt.Axis(
        title=None,
        values=list(range(len(paths))),
        labelExpr=CUT.format(f"{names}[datum.value]"),
        labelLimit=0,
        labelOverlap="greedy",
        labelPadding=6,
        ticks=False,
        domain=False,
    )
    scale = alt.Scale(domain=[-OVERLAP, len(paths) - 1 + OVERLAP], reverse=True, nice=False)
    y: dict[str, Any] = {"scale": scale, "axis": axis}
    band = base.mark_area(color=colour, opacity=0.4).encode(y=alt.Y("low:Q", **y), y2="high:Q")
    line = base.mark_line(color=colour, strokeWidth=1.8).encode(y=alt.Y("middle:Q", **y))
    touch = base.mark_point(opacity=0, size=90).encode(
        y=alt.Y("middle:Q", **y),
        tooltip=[
            alt.Tooltip("path:N", title="layer"),
            alt.Tooltip("step:Q", format=","),
            alt.Tooltip("mean:Q", format=".4~g"),
            alt.Tooltip("std:Q", format=".4~g", title="standard deviation"),
        ],
    )
    height = max(LEAST, min(MOST, ROW * len(paths)))

    rows = [_row(band, place[band.path], heights) for band in found]

    return drawn(named(alt.layer(band, line, touch)), height, bands=rows)


def _row(band: _Band, place: int, heights: Callable[[float], float]) -> dict[str, Any]:
    low, middle, high = (
        round(place - heights(value), 4)
        for value in (band.mean - band.std, band.mean, band.mean + band.std)
    )
    numbers = {"mean": float(f"{band.mean:.4g}"), "std": float(f"{band.std:.4g}")}
    return {"path": words(band.path), "step": band.step, "low": low, "middle": middle} | (
        {"high": high} | numbers
    )


def _ends(bands: Iterable[_Band]) -> dict[str, tuple[_Band, _Band]]:
    found: dict[str, tuple[_Band, _Band]] = {}
    for band in bands:
        found[band.path] = (found.get(band.path, (band, band))[0], band)

    return found


def _alt(what: str, bands: Iterable[_Band]) -> str:
    ends = list(_ends(bands).values())
    first, last = ends[0], ends[-1]
    return (
        f"Ridge chart of {many(len(ends), 'layer')} over training steps. {what} Standard deviation "
        f"of the first layer, {words(first[0].path)}: {number(first[0].std)} at first, "
        f"{number(first[1].std)} at the end; of the last, {words(last[0].path)}: "
        f"{number(last[0].std)} at first, {number(last[1].std)} at the end."
    )


def _table(title: str, bands: Iterable[_Band]) -> Table:
    rows = [
        [words(path), *(f"{number(b.mean)} ± {number(b.std)}" for b in ends)]
        for path, ends in _ends(bands).items()
    ]
    return Table(title, ["layer", "at first", "at the end"], rows)
