"""The page of a watch report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...._errors import explain
from ....watch import Recording
from ...words import many, number
from .._page import Figure, assemble
from ._alerts import alert_lines, alert_table, constants, said, scalars
from ._heat import heat_maps, idle
from ._quantities import SECTIONS
from ._ridge import ridges
from ._runs import Run, name_apart

__all__ = ["render", "write_html"]


@dataclass(frozen=True)
class _Section:
    """Heat maps under one heading: a group per quantity, a chart per run in it."""

    title: str
    groups: list[list[Figure]]
    still: list[str]

    @property
    def key(self) -> str:
        return self.title.lower().replace(" ", "-")


def render(recordings: Sequence[tuple[str, Recording]], title: str | None = None) -> str:
    """The page, as text.

    Args:
        recordings: what was recorded, each with the name of its file. Two, with and without batch
            norm for instance, stand side by side, in the same colours and heights.
        title: heading; names the runs by default.

    Raises:
        ValueError: nothing was recorded.
    """
    runs = name_apart(recordings)
    if not any(run.recording.layers for run in runs):
        names = ", ".join(name for name, _ in recordings) or "no recording"
        cure = "Train for more steps than watch's interval"
        raise ValueError(explain("watch report", "there must be rows of layers", names, cure))
    sections = [section for section in _sections(runs) if section.groups or section.still]
    ridge, alerts, logged = list(ridges(runs)), list(alert_lines(runs)), list(scalars(runs))
    heat = [figure for section in sections for group in section.groups for figure in group]

    return assemble(
        "watch.html.j2",
        [*alerts, *logged, *ridge, *heat],
        title=title or " and ".join(run.title for run in runs),
        runs=runs,
        many=many,
        said=[said(run) for run in runs],
        ridge=ridge,
        alerts=alerts,
        tables=[alert_table(run) for run in runs if run.recording.alerts],
        scalars=logged,
        constants=constants(runs),
        sections=sections,
    )


def _sections(runs: Sequence[Run]) -> Iterable[_Section]:
    for title, quantities in SECTIONS.items():
        groups = [list(heat_maps(shown, runs)) for shown in quantities]
        still = [
            f"{shown.title}: {number(value)}{f' {shown.unit}' if shown.unit else ''}"
            for shown in quantities
            if (value := idle(shown, runs)) is not None
        ]
        yield _Section(title, [group for group in groups if group], still)


def write_html(
    recordings: Sequence[tuple[str, Recording]], path: Path, title: str | None = None
) -> None:
    """Write :func:`render`'s page."""
    page = render(recordings, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
