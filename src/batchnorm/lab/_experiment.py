"""What an experiment is: arms, data, budget, measurements, and the claims that they decide."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol

import polars as pl

from .._errors import explain
from ._chart import Chart
from ._trial import Measure, MeasureTogether, Trial, Value
from .claims import Finding
from .data import load as load_dataset

__all__ = ["Budget", "Data", "Experiment", "Grid", "Question"]

Budget = Literal["smoke", "default", "full"]


class Data(Protocol):
    """What a trial works on; a :class:`batchnorm.lab.data.Dataset`, for example."""

    @property
    def title(self) -> str:
        """The name as people know it."""

    @property
    def digest(self) -> str:
        """Digest of everything in it."""


@dataclass(frozen=True)
class Grid:
    """What a budget pays for.

    Args:
        seeds: 0, 1, ... of every arm and setting.
        datasets: names; one that lies in no folder the user named is left out, and said so.
        settings: values to choose from, by name; a trial has one of each.
        seconds: what it takes on two cores, for orientation.
        by_dataset: other values for one dataset, by its name.
    """

    seeds: int
    datasets: tuple[str, ...]
    settings: Mapping[str, tuple[Value, ...]]
    seconds: float
    by_dataset: Mapping[str, Mapping[str, tuple[Value, ...]]] = field(default_factory=dict)

    def of(self, dataset: str) -> Iterator[dict[str, Value]]:
        """Every combination of settings for one dataset."""
        settings = {**self.settings, **self.by_dataset.get(dataset, {})}
        for values in product(*settings.values()):
            yield dict(zip(settings, values, strict=True))


@dataclass(frozen=True)
class Question:
    """A claim that an experiment decides.

    Args:
        statement: the claim, in words that could be wrong.
        source: who says so, with the section and a link.
        rule: how the verdict follows, in words.
        judge: the rule: from the trials on one dataset (a row each) to a finding.
        published: the number in the source, if there is one.
    """

    statement: str
    source: str
    rule: str
    judge: Callable[[pl.DataFrame], Finding]
    published: str = ""


@dataclass(frozen=True)
class Experiment:
    """A small file of ``batchnorm.lab.experiments`` has one of these as ``EXPERIMENT``.

    Args:
        name: on the command line; lower case and hyphens.
        title: heading.
        about: what is done, in a few sentences.
        arms: label by name, the one compared against first.
        budgets: a grid each.
        measured: meaning, with the unit, of every name that a trial returns.
        questions: the claims.
        charts: pictures of the trials; the first stands for the experiment.
        measure: runs one trial; the same numbers for the same trial, a function of its module.
        measure_together: instead of ``measure``: runs trials that differ in nothing but
            ``together``; each one's numbers do not depend on its company.
        together: ``seed``, ``arm`` and names of settings.
        keep: False for an arm and settings that make no sense together.
        load: the data by name; from the folder that the user named, if any.
    """

    name: str
    title: str
    about: str
    arms: Mapping[str, str]
    budgets: Mapping[Budget, Grid]
    measured: Mapping[str, str]
    questions: Sequence[Question]
    charts: Sequence[Chart] = ()
    measure: Measure | None = None
    measure_together: MeasureTogether | None = None
    together: tuple[str, ...] = ()
    keep: Callable[[str, Mapping[str, Value]], bool] = lambda _arm, _settings: True
    load: Callable[[str, Path | None], Any] = field(default=load_dataset)

    def __post_init__(self) -> None:
        if (self.measure is None) == (self.measure_together is None):
            rule, cure = "one function must measure", "Give measure or measure_together"
            got = "none" if self.measure is None else "two"
            raise ValueError(explain(f"experiment '{self.name}'", rule, got, cure))

    def grid(self, budget: Budget) -> Grid:
        """What `budget` pays for.

        Raises:
            ValueError: no such budget.
        """
        if budget not in self.budgets:
            rule, cure = "the budget must be known", f"Use one of {', '.join(self.budgets)}"
            raise ValueError(explain(f"experiment '{self.name}'", rule, repr(budget), cure))

        return self.budgets[budget]

    def trials(self, grid: Grid, digests: Mapping[str, str]) -> list[Trial]:
        """Every trial of `grid` on the data of these digests, those of one seed beside each other.

        Args:
            grid: what to run.
            digests: by dataset; others are left out.
        """
        return [
            Trial(self.name, arm, dataset, digests[dataset], seed, settings)
            for dataset in grid.datasets
            if dataset in digests
            for seed in range(grid.seeds)
            for settings in grid.of(dataset)
            for arm in self.arms
            if self.keep(arm, settings)
        ]
