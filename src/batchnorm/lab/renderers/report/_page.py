"""The page of the lab's report."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..._record import StudyRecord
from ...claims import Verdict
from .._page import assemble
from .._table import Table
from ..console import MARKS
from ._drawing import address, thumbnail
from ._figures import Shown
from ._tables import intervals, means

__all__ = ["Section", "render", "sections"]

TAKEN = ("overview", "claims", "specs", "content")
"""Ids of the page's own parts."""
ADDRESS = re.compile(r"https?://[^\s<>\"]*[^\s<>\".,;:!?)\]]")


@dataclass(frozen=True)
class Section:
    """The page of one experiment.

    Args:
        key: its id, and its route.
        record: what was found.
        figures: its charts.
    """

    key: str
    record: StudyRecord
    figures: list[Shown]

    @cached_property
    def thumbnail(self) -> str | None:
        """A small picture that stands for it."""
        return thumbnail(self.record.charts)

    @property
    def seen(self) -> str:
        """What the small picture shows."""
        shown = next(figure for figure in self.figures if figure.panels)

        return f"{shown.title}. {shown.panels[0].alt}"

    @property
    def means(self) -> list[Table]:
        """A table for each dataset."""
        return [means(self.record, name) for name in self.record.datasets]


def sections(records: Iterable[StudyRecord]) -> list[Section]:
    """A page for every study, under different ids."""
    found: list[Section] = []
    taken = set(TAKEN)
    for record in records:
        base = key = _slug(record.experiment)
        rank = 2
        while key in taken:
            key, rank = f"{base}-{rank}", rank + 1
        figures = [
            Shown(f"{key}--{_slug(picture.chart.key)}", picture, dict(record.datasets))
            for picture in record.charts
            if picture.panels
        ]
        taken |= {key, *(figure.key for figure in figures)}
        found.append(Section(key, record, figures))

    return found


def _slug(name: str) -> str:
    """A name that can be an id, a file and an address."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def render(found: Sequence[Section], stills: Mapping[str, str]) -> str:
    """The page, as text.

    Args:
        found: its parts.
        stills: every chart as SVG, by key; for browsers without scripts.
    """
    records = [section.record for section in found]

    return assemble(
        "lab.html.j2",
        styles=("report.css", "lab.css"),
        scripts=("charts.js", "lab.js"),
        specs={figure.key: figure.drawn for section in found for figure in section.figures},
        stills={key: address(svg) for key, svg in stills.items()},
        sections=found,
        counts=_counts(records),
        total=sum(len(record.claims) for record in records),
        budgets=dict.fromkeys(record.budget for record in records),
        machines=dict.fromkeys(record.environment.machine for record in records),
        marks=MARKS,
        intervals=intervals,
        pieces=pieces,
        listed=_listed,
    )


def _counts(records: Iterable[StudyRecord]) -> dict[Verdict, int]:
    found = Counter(claim.verdict for record in records for claim in record.claims)

    return {verdict: found[verdict] for verdict in MARKS}


def pieces(text: str) -> list[tuple[str, bool]]:
    """Text cut into pieces, and whether each is a web address."""
    found, end = [], 0
    for match in ADDRESS.finditer(text):
        found += [(text[end : match.start()], False), (match[0], True)]
        end = match.end()

    return [*found, (text[end:], False)]


def _listed(values: Iterable[Any]) -> str:
    return "; ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
