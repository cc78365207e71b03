"""Vega-Lite of the charts that experiments declare.

Written as it is: a report has a hundred charts, and Altair takes 45 ms to check one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..._chart import Mark
from ..._series import POINTS, Panel, Picture, Series, thinned
from ._frame import Frame, Spec, Use

__all__ = ["rows_of", "spec"]

SEEDS = ("mean", "lowest seed", "highest seed")


def rows_of(panel: Panel, most: int = POINTS) -> list[Spec]:
    """The data of a panel: a row for each series, its numbers as lists.

    Args:
        panel: which.
        most: points of a series.
    """
    return [
        {"series": one.label}
        | {name: _some(one, name, most) for name in ("x", "mean", "low", "high")}
        for one in panel.series
    ]


def _some(one: Series, name: str, most: int) -> Sequence[Any]:
    """All of them where the places have names."""
    values: Sequence[Any] = getattr(one, name)

    return values if isinstance(one.x[0], str) else thinned(values, most)


def spec(picture: Picture, panels: Sequence[Panel], use: Use) -> Spec:
    """A chart without its data.

    Args:
        picture: which.
        panels: those that are compared: they get the same scales.
        use: a page has a legend of its own, whose parameter ``only`` names the one series to be
            seen; a thumbnail has no axes.
    """
    mark, measured = picture.chart.mark, picture.chart.value or picture.chart.y
    if mark == "bars" and measured.scale == "log":
        mark = "points"  # a bar would begin at zero
    made: Spec = {
        "transform": [{"flatten": ["x", "mean", "low", "high"]}],
        "layer": list(DRAWN[mark](Frame(picture, panels, use))),
    }
    if use == "page" and mark != "heat":
        made["params"] = [{"name": "only", "value": ""}]

    return made


def _layer(mark: str, looks: Spec, *encodings: Spec) -> Spec:
    encoding = {channel: value for part in encodings for channel, value in part.items()}

    return {"mark": {"type": mark} | looks, "encoding": encoding}


def _lines(frame: Frame) -> Iterator[Spec]:
    reach, middle = frame.position("low", "high"), frame.position("mean")
    yield _layer("area", {"fillOpacity": 0.18}, reach, frame.colour())
    yield _layer("line", {"strokeWidth": 2.2}, middle, frame.colour(), frame.dash())
    yield from _touched(frame, *SEEDS)


def _bands(frame: Frame) -> Iterator[Spec]:
    reach, middle = frame.position("low", "high"), frame.position("mean")
    yield _layer("area", {"fillOpacity": 0.22}, reach, frame.colour())
    for end in ("low", "high"):
        place = frame.position(end)
        yield _layer("line", {"strokeWidth": 1.1}, place, frame.colour(), frame.dash())
    yield _layer("line", {"strokeWidth": 2.4}, middle, frame.colour(), frame.dash())
    yield from _touched(frame, "middle", "low", "high")


def _touched(frame: Frame, *names: str) -> Iterator[Spec]:
    """Points to point at; seen where there are few."""
    place, told = frame.position("mean"), frame.tooltip(*names)
    if frame.dotted:
        dot = {"filled": True, "size": 55}
        yield _layer("point", dot, place, frame.colour(), frame.shape(), told)
    elif frame.use == "page":
        unseen = {"strokeOpacity": 0, "fillOpacity": 0, "size": 90}
        yield _layer("point", unseen, place, {"detail": {"field": "series"}}, told)


def _bars(frame: Frame) -> Iterator[Spec]:
    bar, reach = frame.position("mean"), frame.position("low", "high")
    yield _layer("bar", {"fillOpacity": 0.8}, bar, frame.colour(), frame.tooltip(*SEEDS))
    yield _layer("rule", {"strokeWidth": 1.6}, reach, frame.faint())


def _points(frame: Frame) -> Iterator[Spec]:
    reach, middle = frame.position("low", "high"), frame.position("mean")
    dot = {"filled": True, "size": 70}
    yield _layer("rule", {"strokeWidth": 1.6}, reach, frame.colour())
    yield _layer("point", dot, middle, frame.colour(), frame.shape(), frame.tooltip(*SEEDS))


def _heat(frame: Frame) -> Iterator[Spec]:
    yield _layer("rect", {}, frame.cells(), frame.tooltip(*SEEDS))


DRAWN: dict[Mark, Callable[[Frame], Iterator[Spec]]] = {
    "lines": _lines,
    "bands": _bands,
    "bars": _bars,
    "points": _points,
    "heat": _heat,
}
