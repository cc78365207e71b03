"""A study as plain data: what is written to files, read back and shown."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import polars as pl

from ._chart import Axis, Chart
from ._series import Panel, Picture, Series, picture
from ._study import Study
from .claims import Claim, Finding
from .environment import Environment
from .summary import Estimate

__all__ = ["StudyRecord", "record_of"]


@dataclass(frozen=True, eq=False)
class StudyRecord:
    """A study without functions. Its fields are those of :class:`Study` and of its experiment.

    Args:
        experiment: name.
        settings: values to choose from, by name.
        by_dataset: other values for one dataset, by its name.
        charts: with their numbers.
        trials: a row each.
    """

    experiment: str
    title: str
    about: str
    arms: Mapping[str, str]
    measured: Mapping[str, str]
    budget: str
    seeds: int
    settings: Mapping[str, tuple[Any, ...]]
    by_dataset: Mapping[str, Mapping[str, tuple[Any, ...]]]
    datasets: Mapping[str, str]
    left_out: Mapping[str, str]
    claims: tuple[Claim, ...]
    charts: tuple[Picture, ...]
    environment: Environment
    reused: int
    seconds: float
    trials: pl.DataFrame

    def summary(self) -> dict[str, Any]:
        """Everything but the trials and the charts, as JSON can hold it."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        del kept["trials"], kept["charts"]

        return kept | {
            "claims": [asdict(claim) for claim in self.claims],
            "environment": asdict(self.environment),
        }

    def plain(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        charts = [_plain_chart(chart) for chart in self.charts]

        return self.summary() | {"charts": charts, "trials": self.trials.to_dicts()}

    @classmethod
    def read(cls, plain: Mapping[str, Any], trials: pl.DataFrame) -> "StudyRecord":
        """What :meth:`plain` returned, after JSON.

        Args:
            plain: the record.
            trials: instead of its own.

        Raises:
            KeyError, TypeError: it is something else.
        """
        return cls(
            **dict(plain)
            | {
                "claims": tuple(map(_claim, plain["claims"])),
                "charts": tuple(map(_picture, plain["charts"])),
                "environment": Environment(**plain["environment"]),
                "trials": trials,
            }
        )


def record_of(study: Study) -> StudyRecord:
    """The same as plain data, its charts with their numbers."""
    experiment, grid = study.experiment, study.grid
    charts, left_out = [], dict(study.left_out)
    for chart in experiment.charts:
        try:
            charts.append(picture(chart, study.trials, experiment.arms))
        except Exception as error:  # rows are the experiment's code; the trials are not lost by it
            left_out[f"chart '{chart.key}'"] = str(error)

    return StudyRecord(
        experiment=experiment.name,
        title=experiment.title,
        about=experiment.about,
        arms=dict(experiment.arms),
        measured=dict(experiment.measured),
        budget=study.budget,
        seeds=grid.seeds,
        settings=dict(grid.settings),
        by_dataset={name: dict(own) for name, own in grid.by_dataset.items()},
        datasets=dict(study.datasets),
        left_out=left_out,
        claims=study.claims,
        charts=tuple(charts),
        environment=study.environment,
        reused=study.reused,
        seconds=study.seconds,
        trials=study.trials,
    )


def _plain_chart(drawn: Picture) -> dict[str, Any]:
    declared = {f.name: getattr(drawn.chart, f.name) for f in fields(drawn.chart)}
    del declared["rows"]
    axes = {
        name: asdict(axis) for name in ("x", "y", "value") if (axis := declared[name]) is not None
    }

    return (
        declared
        | axes
        | {
            "names": drawn.names,
            "order": drawn.order,
            "panels": [asdict(panel) for panel in drawn.panels],
        }
    )


def _picture(plain: Mapping[str, Any]) -> Picture:
    declared = dict(plain)
    names, order = (tuple(declared.pop(name)) for name in ("names", "order"))
    panels = tuple(map(_panel, declared.pop("panels")))
    axes = {name: _axis(declared[name]) for name in ("x", "y", "value") if declared[name]}

    return Picture(Chart(**declared | axes), names, order, panels)


def _axis(plain: Mapping[str, Any]) -> Axis:
    return Axis(**dict(plain) | {"domain": tuple(plain["domain"]) if plain["domain"] else None})


def _panel(plain: Mapping[str, Any]) -> Panel:
    series = (
        Series(label=one["label"], **{k: tuple(v) for k, v in one.items() if k != "label"})
        for one in plain["series"]
    )

    return Panel(plain["dataset"], plain["column"], tuple(series))


def _claim(plain: Mapping[str, Any]) -> Claim:
    findings = {name: _finding(found) for name, found in plain["findings"].items()}

    return Claim(**dict(plain) | {"findings": findings})


def _finding(plain: Mapping[str, Any]) -> Finding:
    """JSON has no infinity: what is missing is an open end or no number."""
    effect = plain["effect"]
    found = Estimate(
        mean=_number(effect["mean"]),
        low=_number(effect["low"], -math.inf),
        high=_number(effect["high"], math.inf),
        spread=_number(effect["spread"]),
        values=tuple(map(_number, effect["values"])),
    )

    return Finding(**dict(plain) | {"effect": found, "size": _number(plain["size"])})


def _number(value: float | None, missing: float = math.nan) -> float:
    return missing if value is None else value
