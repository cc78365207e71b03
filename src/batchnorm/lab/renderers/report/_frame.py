"""What the marks of a chart share: places, scales, colours and tooltips, as Vega-Lite."""

from collections.abc import Sequence
from typing import Any, Literal

from ..._chart import Axis
from ..._series import Panel, Picture
from ._looks import COLOURS, DASHES, SHAPES, looks

__all__ = ["Frame", "Spec", "Use", "present", "tells_apart"]

Spec = dict[str, Any]
Use = Literal["page", "picture", "thumbnail"]
FEW = 16
"""Points of a line that are shown as such, numbers of an axis that are all written."""
WIDE = 8
"""Letters of a name from which on bars lie, so that it can be read."""
NUMBERS = ",.6~g"


def present(picture: Picture) -> list[str]:
    """Names of the series that have numbers."""
    found = {one.label for panel in picture.panels for one in panel.series}

    return [name for name in picture.names if name in found]


def tells_apart(picture: Picture) -> bool:
    """A legend has something to say that no axis says."""
    return len(present(picture)) > 1 and picture.chart.colour != picture.chart.x.field


class Frame:
    """Axes, colours and tooltips: what all marks share."""

    def __init__(self, picture: Picture, panels: Sequence[Panel], use: Use) -> None:
        self.picture, self.panels, self.use = picture, panels, use
        self.chart = picture.chart
        self.measured = self.chart.value or self.chart.y
        self.turned = self.chart.mark in ("bars", "points") and any(
            len(name) > WIDE for name in picture.order
        )

    @property
    def length(self) -> int:
        """Points of the longest series."""
        return max(len(one.x) for panel in self.panels for one in panel.series)

    @property
    def lined(self) -> bool:
        """Series are lines."""
        return self.chart.mark in ("lines", "bands")

    @property
    def dotted(self) -> bool:
        """They are lines with points that are seen."""
        return self.lined and self.length <= FEW and self.use != "thumbnail"

    @property
    def apart(self) -> bool:
        """Several series share a place on an ordinal axis, and stand beside each other there."""
        places = [
            [x for one in panel.series for x in one.x] if self.picture.order else []
            for panel in self.panels
        ]

        return any(len(set(found)) < len(found) for found in places)

    def position(self, start: str, end: str = "") -> Spec:
        """Where a mark stands, reaching from one number to another."""
        x, y = ("y", "x") if self.turned else ("x", "y")
        placed = {x: self._places(), y: self._measures(start)}
        if end:
            placed[f"{y}2"] = {"field": end}
        if self.apart:
            names = {"domain": present(self.picture)}
            placed[f"{x}Offset"] = {"field": "series", "type": "nominal", "scale": names}

        return placed

    def _places(self) -> Spec:
        return self._names() if self.picture.order else self._numbers()

    def _names(self) -> Spec:
        place: Spec = {"field": "x", "type": "ordinal", "sort": list(self.picture.order)}
        shown: Spec = {"labelAngle": 0, "labelOverlap": not self.turned, "grid": False}
        if self.turned:
            shown |= {"labelLimit": 160, "title": None}

        return self._with_axis(place, self.chart.x, shown)

    def _numbers(self) -> Spec:
        axis = self.chart.x
        places = sorted({x for panel in self.panels for one in panel.series for x in one.x})
        scale: Spec = {"type": axis.scale, "domain": _domain(axis, places), "nice": False}
        shown: Spec = {"format": axis.format or NUMBERS, "tickCount": 5, "labelFlush": True}
        if self.chart.mark == "points" or axis.scale == "log":
            scale["padding"] = 10
        if len(places) <= FEW and axis.scale == "log":
            shown["values"] = places
        place = {"field": "x", "type": "quantitative", "scale": scale}

        return self._with_axis(place, axis, shown | {"grid": False, "labelOverlap": "greedy"})

    def _measures(self, field: str) -> Spec:
        axis = self.measured
        means_alone = self.chart.mark == "heat"
        numbers = [
            value
            for panel in self.panels
            for one in panel.series
            for value in (one.mean if means_alone else (*one.mean, *one.low, *one.high))
            if value is not None
        ]
        from_zero = self.chart.mark == "bars" and axis.scale != "log"
        domain = _domain(axis, [*numbers, 0.0] if from_zero else numbers)
        scale = {"type": axis.scale, "domain": domain, "nice": not means_alone}
        shown = {"format": axis.format or NUMBERS, "tickCount": 5, "labelOverlap": "greedy"}

        return self._with_axis(
            {"field": field, "type": "quantitative", "scale": scale}, axis, shown
        )

    def _with_axis(self, channel: Spec, axis: Axis, shown: Spec) -> Spec:
        if self.use == "thumbnail":
            return channel | {"axis": None}

        return channel | {"axis": {"title": axis.title} | shown}

    def colour(self) -> Spec:
        """The series' colours, the others faint where one was chosen."""
        return {"color": self._look(COLOURS)} | self.faint()

    def faint(self) -> Spec:
        """Faint where another series was chosen."""
        if self.use != "page":
            return {}
        test = "only === '' || datum.series === only"

        return {"opacity": {"condition": {"test": test, "value": 1}, "value": 0.1}}

    def dash(self) -> Spec:
        """The series' dashes."""
        return {"strokeDash": self._look([list(dash) for dash in DASHES])}

    def shape(self) -> Spec:
        """The series' shapes."""
        return {"shape": self._look(SHAPES)}

    def _look(self, kinds: Sequence[Any]) -> Spec:
        legend: Spec | None = None
        if self.use == "picture" and tells_apart(self.picture):
            legend = {"title": None, "orient": "top", "columns": 3, "labelLimit": 260}
            legend |= {"values": present(self.picture)}
            if self.dotted:
                legend["symbolStrokeWidth"] = 0
            elif self.lined:
                legend["symbolType"] = "stroke"
        scale = looks(self.picture.names, kinds)

        return {"field": "series", "type": "nominal", "scale": scale, "legend": legend}

    def cells(self) -> Spec:
        """Of a heat map: rows are series, colours are numbers."""
        measured = self._measures("mean")
        legend = {"title": self.measured.title, "orient": "top", "gradientLength": 120}
        legend |= {"format": self.measured.format or NUMBERS}
        rows: Spec = {"field": "series", "type": "ordinal", "sort": present(self.picture)}

        return {
            "x": self._places(),
            "y": self._with_axis(rows, self.chart.y, {"labelLimit": 160, "grid": False}),
            "color": {
                "field": "mean",
                "type": "quantitative",
                "scale": measured["scale"] | {"scheme": "viridis"},
                "legend": None if self.use == "thumbnail" else legend,
            },
        }

    def tooltip(self, mean: str, low: str, high: str) -> Spec:
        """Series, place and numbers."""
        if self.use != "page":
            return {}
        written, x = self.measured.format or ".4~g", self.chart.x
        place = {"field": "x", "title": x.title}
        place |= (
            {"type": "ordinal"}
            if self.picture.order
            else {"type": "quantitative", "format": x.format or NUMBERS}
        )
        shown = [{"field": "series", "type": "nominal", "title": "series"}, place]
        shown += [
            {"field": field, "type": "quantitative", "title": title, "format": written}
            for field, title in (("mean", mean), ("low", low), ("high", high))
        ]

        return {"tooltip": shown}


def _domain(axis: Axis, numbers: Sequence[float]) -> list[float]:
    """Both ends of a scale, apart even where there is only one number."""
    low, high = axis.domain or (min(numbers), max(numbers))
    if low < high:
        return [low, high]

    return [low / 2, 2 * low] if axis.scale == "log" else [low - 1, low + 1]
