"""Charts as the page shows them."""

import base64
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import vl_convert

from ..._series import Panel, Picture
from .._table import Table
from ._frame import present, tells_apart
from ._looks import DASHES, GLYPHS, SHAPES, colour_of
from ._spec import rows_of, spec
from ._words import described, numbers

__all__ = ["Entry", "Shown", "ShownPanel", "thumbnail"]

AXIS = "#7b8390"
FONT = "DejaVu Sans, Liberation Sans, Helvetica, Arial, sans-serif"
PICTURE = {
    "font": FONT,
    "aria": False,  # a picture has one text for all
    "view": {"stroke": None},
    "axis": {"gridColor": "#e8e8e8", "domainColor": "#888", "tickColor": "#888"}
    | {"titleFontWeight": "normal"},
    "legend": {"symbolStrokeWidth": 2.5, "symbolSize": 150, "titleFontWeight": "normal"},
    "title": {"anchor": "start", "fontSize": 12},
    "rule": {"color": "#333"},
}
THUMBNAIL = {"aria": False, "view": {"stroke": AXIS, "strokeOpacity": 0.6}, "rule": {"color": AXIS}}
MOST = 3
"""Panels beside each other."""
TAG = re.compile(r"<[^>]+>")
NOISE = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|font-family|xmlns:xlink)="[^"]*"| opacity="1"'
)
IDS = re.compile(r"\b(?:gradient_|clip)\d+")
DIGITS = re.compile(r"(\d\.\d)\d+")


@dataclass(frozen=True)
class Entry:
    """Of a legend.

    Args:
        name: of the series.
        colour: its colour.
        dash: of its lines.
        glyph: like its points.
    """

    name: str
    colour: str
    dash: str
    glyph: str


@dataclass(frozen=True)
class ShownPanel:
    """A panel in the page.

    Args:
        title: the data, and what else sets it apart.
        alt: what it shows.
        table: the numbers.
    """

    title: str
    alt: str
    table: Table


@dataclass(frozen=True)
class Shown:
    """A chart in the page.

    Args:
        key: its id.
        picture: with the numbers.
        datasets: title by name.
    """

    key: str
    picture: Picture
    datasets: dict[str, str]

    @property
    def file(self) -> str:
        """Name of its picture."""
        return self.key.replace("--", "-")

    @property
    def title(self) -> str:
        """Heading."""
        return self.picture.chart.title

    @property
    def caption(self) -> str:
        """How to read it."""
        return self.picture.chart.caption

    @cached_property
    def panels(self) -> list[ShownPanel]:
        """In the order of :attr:`drawn`."""
        found = []
        for panel in self.picture.panels:
            title = self._title(panel)
            alt = described(self.picture, panel, title)
            found.append(ShownPanel(title, alt, numbers(self.picture, panel, title)))

        return found

    def _title(self, panel: Panel) -> str:
        parts, columns = [self.datasets[panel.dataset], panel.column], self.picture.chart.columns
        if columns not in (None, "arm") and not panel.column.startswith(str(columns)):
            parts[1] = f"{columns} {panel.column}"

        return ", ".join(part for part in parts if part)

    @property
    def across(self) -> int:
        """Panels that stand beside each other: those of one dataset, or one of each."""
        of_data = Counter(panel.dataset for panel in self.picture.panels)
        count = max(of_data.values()) if self.picture.chart.columns else len(of_data)

        return count if count <= MOST else 2 if count == 4 else MOST

    @property
    def legend(self) -> list[Entry]:
        """Empty where there is nothing to tell apart, or where an axis tells it."""
        chart = self.picture.chart
        if chart.mark == "heat" or not tells_apart(self.picture):
            return []
        solid = chart.mark in ("bars", "points")

        return [
            Entry(
                name,
                colour_of(place),
                "" if solid else " ".join(map(str, DASHES[place % len(DASHES)])),
                GLYPHS["square" if chart.mark == "bars" else SHAPES[place % len(SHAPES)]],
            )
            for place, name in enumerate(self.picture.names)
            if name in present(self.picture)
        ]

    @cached_property
    def drawn(self) -> dict[str, Any]:
        """For the script: a specification for each dataset, and the data of every panel."""
        names = list(dict.fromkeys(panel.dataset for panel in self.picture.panels))

        return {
            "specs": [spec(self.picture, self._of(name), "page") for name in names],
            "panels": [
                {"spec": names.index(panel.dataset), "rows": rows_of(panel)}
                for panel in self.picture.panels
            ],
        }

    def _of(self, dataset: str) -> list[Panel]:
        return [panel for panel in self.picture.panels if panel.dataset == dataset]

    @cached_property
    def svg(self) -> str:
        """All panels as one picture on white."""
        panels = [
            spec(self.picture, self._of(panel.dataset), "picture")
            | {"data": {"values": rows_of(panel)}, "width": 260, "height": 190}
            | {"title": {"text": shown.title, "limit": 320}}
            for panel, shown in zip(self.picture.panels, self.panels, strict=True)
        ]
        whole: dict[str, Any] = {"concat": panels, "columns": self.across}

        return _svg(
            whole | {"config": PICTURE, "background": "white", "padding": 12, "title": self.title}
        )

    @property
    def still(self) -> str:
        """The same as an address of data, for browsers without scripts."""
        return _address(self.svg)


def thumbnail(pictures: Iterable[Picture]) -> str | None:
    """The first panel of the first chart that has one, small and without axes."""
    for picture in pictures:
        for panel in picture.panels:
            made = spec(picture, [panel], "thumbnail") | {"data": {"values": rows_of(panel)}}
            size = {"width": 170, "height": 100, "padding": 2, "background": "transparent"}
            return _address(_svg(made | size | {"config": THUMBNAIL}))

    return None


def _svg(whole: dict[str, Any]) -> str:
    """Without what only scripts and readers of the screen use, a third of it."""
    drawn = TAG.sub(_plain_tag, vl_convert.vegalite_to_svg(whole))
    # Numbers that count on from drawing to drawing.
    ranks = {name: f"part{rank}" for rank, name in enumerate(dict.fromkeys(IDS.findall(drawn)))}
    drawn = IDS.sub(lambda name: ranks[name[0]], drawn)

    return drawn.replace("<svg", f'<svg font-family="{FONT}"', 1)


def _plain_tag(tag: re.Match[str]) -> str:
    """With coordinates to a tenth of a pixel."""
    return DIGITS.sub(r"\1", NOISE.sub("", tag[0]))


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
