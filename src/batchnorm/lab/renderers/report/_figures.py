"""Charts as the page shows them."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..._series import Panel, Picture, spaced
from .._table import Table
from ._frame import present, tells_apart
from ._looks import DASHES, GLYPHS, SHAPES, colour_of
from ._spec import rows_of, spec
from ._words import described, numbers

__all__ = ["STILL", "Entry", "Shown", "ShownPanel"]

MOST = 3
"""Panels beside each other."""
STILL = 40
"""Points of a series: a picture is small."""


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
        first: it begins a row: other data, where each has several panels.
    """

    title: str
    alt: str
    table: Table
    first: bool


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
        found, seen = [], set[str]()
        for panel in self.picture.panels:
            title = self._title(panel)
            alt = described(self.picture, panel, title)
            first = self.picture.chart.columns is not None and panel.dataset not in seen
            found.append(ShownPanel(title, alt, numbers(self.picture, panel, title), first))
            seen.add(panel.dataset)

        return found

    def _title(self, panel: Panel) -> str:
        parts, columns = [self.datasets[panel.dataset], panel.column], self.picture.chart.columns
        if columns not in (None, "arm") and not panel.column.startswith(str(columns)):
            parts[1] = f"{spaced(str(columns))} {panel.column}"

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

    @property
    def still(self) -> dict[str, Any]:
        """All panels as one picture: a specification with its data."""
        rows: list[list[dict[str, Any]]] = [[]]
        for panel, shown in zip(self.picture.panels, self.panels, strict=True):
            if shown.first and rows[-1]:
                rows.append([])
            rows[-1].append(
                spec(self.picture, self._of(panel.dataset), "picture")
                | {"data": {"values": rows_of(panel, STILL)}, "width": 260, "height": 190}
                | {"title": {"text": shown.title, "limit": 320}}
            )
        parts = [{"concat": row, "columns": self.across} for row in rows]

        return {"vconcat": parts, "title": self.title}
