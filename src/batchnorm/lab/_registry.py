"""The experiments that there are, by name."""

import pkgutil
from importlib import import_module

import polars as pl

from .._errors import explain
from ._experiment import Experiment

__all__ = ["every", "find", "overview"]


def every() -> dict[str, Experiment]:
    """All experiments: those modules of ``batchnorm.lab.experiments`` that have an ``EXPERIMENT``.

    Example:
        >>> "bias" in every()
        True
    """
    package = import_module(".experiments", __package__)
    names = {found.name for found in pkgutil.iter_modules(package.__path__)}
    ordered = [*package.FIRST_TO_LAST, *sorted(names.difference(package.FIRST_TO_LAST))]
    modules = (import_module(f".{name}", package.__name__) for name in ordered)
    found = (getattr(module, "EXPERIMENT", None) for module in modules)

    return {experiment.name: experiment for experiment in found if experiment is not None}


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none.
    """
    known = every()
    if name not in known:
        rule, cure = "the experiment must be known", f"Use one of {', '.join(known)}"
        raise ValueError(explain("lab", rule, repr(name), cure))

    return known[name]


def overview() -> pl.DataFrame:
    """A row per experiment: name, title, arms, datasets, claims, seconds of each budget."""
    return pl.DataFrame(
        [
            {
                "name": experiment.name,
                "title": experiment.title,
                "arms": list(experiment.arms.values()),
                "datasets": sorted(
                    {d for grid in experiment.budgets.values() for d in grid.datasets}
                ),
                "claims": [question.statement for question in experiment.questions],
            }
            | {budget: grid.seconds for budget, grid in experiment.budgets.items()}
            for experiment in every().values()
        ]
    )
