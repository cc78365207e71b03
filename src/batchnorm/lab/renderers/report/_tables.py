"""Tables of a study: what was measured, and what every claim's verdict rests on."""

import math
import re
from collections.abc import Callable

import polars as pl

from ..._record import StudyRecord
from ...claims import Claim
from ...words import number, percent
from .._table import Table

__all__ = ["MOST", "intervals", "means"]

MOST = 100
"""Rows of a table: a grid of hundreds is for programs."""
SHARE = re.compile(r"^(?!.*\b(loss|or)\b).*\b(accuracy|accuracies|share|whether)\b")
IDENTITY = ("arm", "dataset", "seed")


def intervals(claim: Claim, datasets: dict[str, str]) -> Table:
    """What each dataset says about a claim."""
    head = ["data", "verdict", "effect", "95 % interval", "size", "seeds"]
    rows = [
        [
            datasets[name],
            found.verdict,
            number(found.effect.mean),
            _between(found.effect.low, found.effect.high),
            number(found.size) if math.isfinite(found.size) else "—",
            str(found.effect.count),
        ]
        for name, found in claim.findings.items()
    ]

    return Table("Effect; its size in standard deviations over seeds", head, rows)


def _between(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}" if math.isfinite(high - low) else "—"


def means(record: StudyRecord, dataset: str) -> Table:
    """Mean ± standard deviation of every number, by arm and by the settings that vary."""
    frame = record.trials.filter(dataset=dataset)
    varied = [name for name in record.settings if frame[name].n_unique() > 1]
    other = {*IDENTITY, *record.settings}
    names = [
        name
        for name, kind in frame.schema.items()
        if name not in other and (kind.is_numeric() or kind == pl.Boolean)
    ]
    numbers = [pl.col(name).cast(pl.Float64) for name in names]
    groups = frame.group_by("arm", *varied, maintain_order=True).agg(
        *(value.mean().name.suffix(" mean") for value in numbers),
        *(value.std().name.suffix(" std") for value in numbers),
    )
    shares = _shares(record) | {name for name in names if frame.schema[name] == pl.Boolean}
    rows = [
        [
            record.arms[row["arm"]],
            *(_setting(row[name]) for name in varied),
            *(_cell(row[f"{name} mean"], row[f"{name} std"], name in shares) for name in names),
        ]
        for row in groups.head(MOST).iter_rows(named=True)
    ]
    title = f"{record.datasets[dataset]}: mean ± standard deviation of {record.seeds} seeds"
    if len(groups) > MOST:
        title += f"; the first {MOST} of {len(groups)} rows"

    return Table(title, ["arm", *varied, *names], rows)


def _shares(record: StudyRecord) -> set[str]:
    """Numbers that are written as percentages."""
    return {name for name, meaning in record.measured.items() if SHARE.search(meaning)}


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(mean: float | None, spread: float | None, share: bool) -> str:
    if mean is None:
        return "—"
    if not math.isfinite(mean):
        return "not finite"
    write: Callable[[float], str] = percent if share else number
    if spread is None:
        return write(mean)

    around = f"{100 * spread if share else spread:.2g}"

    return f"{write(mean)} ± {around}".replace("-", "−")
