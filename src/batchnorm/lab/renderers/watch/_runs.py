"""Recordings as charts need them: told apart, places in order, steps in groups."""

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ....watch import Recording
from ....watch._schema import Row

__all__ = ["Cell", "Run", "Span", "name_apart"]

CELLS = 4000
"""Of one chart: more make the page heavy and are finer than a screen."""
FEWEST, MOST = 24, 120


@dataclass(frozen=True)
class Span:
    """Recorded steps that one column of a chart stands for.

    Args:
        start: the first of them.
        end: where the next span starts.
        rows: how many steps of it were recorded.
    """

    start: int
    end: int
    rows: int


@dataclass(frozen=True)
class Cell:
    """A number of one place in one span."""

    path: str
    span: Span
    value: float


@dataclass(frozen=True)
class Run:
    """A recording in a report.

    Args:
        key: part of the ids of its charts.
        title: that tells it from the others.
        recording: what was read.
    """

    key: str
    title: str
    recording: Recording

    @cached_property
    def places(self) -> list[str]:
        """Dotted paths in the order of the forward."""
        order: dict[str, int] = {}
        for row in self.recording.layers:
            order.setdefault(row["path"], row["order"] or 0)

        return sorted(order, key=lambda path: order[path])

    @cached_property
    def first_alerts(self) -> list[Row]:
        """The first alert of each code at each place."""
        found: dict[tuple[str, str], Row] = {}
        for row in self.recording.alerts:
            found.setdefault((row["code"], row["path"] or ""), row)

        return list(found.values())

    @cached_property
    def normalised(self) -> bool:
        """There is a batch norm in it."""
        return any(row["kind"] == "batchnorm" for row in self.recording.layers)

    @cached_property
    def steps(self) -> list[int]:
        """At which layers were recorded."""
        return sorted({row["step"] for row in self.recording.layers})

    @cached_property
    def first_and_last(self) -> tuple[int, int]:
        """Steps between which anything was recorded."""
        found = self.recording
        steps = [row["step"] for row in (*found.layers, *found.scalars, *found.alerts)]
        return (min(steps), max(steps)) if steps else (0, 0)

    @cached_property
    def spans(self) -> list[Span]:
        """The steps in groups of equally many; each group is a cell's width."""
        most = max(FEWEST, min(MOST, CELLS // max(1, len(self.places))))
        group = math.ceil(len(self.steps) / most)
        groups = [self.steps[i : i + group] for i in range(0, len(self.steps), group or 1)]
        starts = [found[0] for found in groups]
        ends = [*starts[1:], self.steps[-1] + self._gap] if groups else []
        return [Span(s, e, len(g)) for s, e, g in zip(starts, ends, groups, strict=True)]

    @property
    def _gap(self) -> int:
        gaps = [b - a for a, b in itertools.pairwise(self.steps)]
        return gaps[-1] if gaps else int(self.recording.run.get("every") or 1)

    def span(self, step: int) -> Span | None:
        """The span that a step belongs to, if layers were recorded around it."""
        place = bisect.bisect_right(self.spans, step, key=lambda span: span.start) - 1
        return self.spans[place] if place >= 0 and step < self.spans[place].end else None

    @cached_property
    def _span_of(self) -> dict[int, Span]:
        found = {step: self.span(step) for step in self.steps}
        return {step: span for step, span in found.items() if span is not None}

    def cells(self, name: str, choose: Callable[[Iterable[float]], float]) -> list[Cell]:
        """A quantity over time: by place, then by time; what was not measured is left out.

        Args:
            name: of the quantity.
            choose: from the numbers of one place in one span to the one that is shown.
        """
        groups: dict[tuple[str, Span], list[float]] = {}
        for row in self.recording.layers:
            value, span = row.get(name), self._span_of[row["step"]]
            if value is not None and math.isfinite(value):
                groups.setdefault((row["path"], span), []).append(value)
        place = {path: i for i, path in enumerate(self.places)}
        found = sorted(groups, key=lambda key: (place[key[0]], key[1].start))

        return [Cell(path, span, choose(groups[path, span])) for path, span in found]


def name_apart(recordings: Sequence[tuple[str, Recording]]) -> list[Run]:
    """Runs with different titles, whatever the recordings call themselves.

    Args:
        recordings: with the name of the file each.
    """
    names = [str(recording.run.get("name") or file) for file, recording in recordings]
    if len(set(names)) < len(names):
        names = [f"{name} ({file})" for name, (file, _) in zip(names, recordings, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{i}: {name}" for i, name in enumerate(names, 1)]

    return [
        Run(f"run{i}", name, recording)
        for i, (name, (_, recording)) in enumerate(zip(names, recordings, strict=True), 1)
    ]
