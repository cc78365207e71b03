"""What an experiment wants to be seen: charts as declarations, drawn elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

__all__ = ["Axis", "Chart", "Mark"]

Mark = Literal["lines", "bars", "points", "heat", "bands"]


def _as_they_are(trials: pl.DataFrame) -> pl.DataFrame:
    return trials


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Args:
        field: column of the rows.
        title: with the unit.
        scale: ``"ordinal"`` for values that only have an order, or names.
        format: of the numbers, as in d3: ``".0%"``.
        domain: both ends; None for those of the data.
    """

    field: str
    title: str
    scale: Literal["linear", "log", "ordinal"] = "linear"
    format: str = ""
    domain: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """A picture of trials, one for each dataset.

    Args:
        key: lower case and hyphens, unique in the experiment.
        title: heading.
        caption: how to read it.
        mark: ``"lines"``: mean over seeds, the range over seeds as a band. ``"bars"`` and
            ``"points"``: mean over seeds, the range as a line. ``"heat"``: the mean of `value`
            as a colour over two ordinal axes. ``"bands"``: the columns ``low``, ``middle`` and
            ``high`` of one distribution over `x`.
        x: horizontal.
        y: vertical; for bands its field is ``"middle"``.
        colour: column that sets series apart; ``"arm"`` shows the arms' labels.
        columns: column that sets small charts beside each other, if any.
        value: what the colour of a heat map means.
        rows: from the trials of one dataset (a row each) to the rows that are drawn, which keep
            the column ``seed`` where there is something to average.
    """

    key: str
    title: str
    caption: str
    mark: Mark
    x: Axis
    y: Axis
    colour: str = "arm"
    columns: str | None = None
    value: Axis | None = None
    rows: Callable[[pl.DataFrame], pl.DataFrame] = field(default=_as_they_are)
