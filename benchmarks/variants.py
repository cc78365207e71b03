"""Each variant against the plain layer and the best ways to do the same in torch alone."""

from collections.abc import Callable
from itertools import groupby

from benchmarks import (
    variants_conditional,
    variants_domain,
    variants_ghost,
    variants_recurrent,
    variants_renorm,
    variants_sequence,
    variants_sync,
    variants_whitened,
)
from benchmarks.context import Context
from benchmarks.rows import Row, guarded
from benchmarks.trial import Trial, make_row

__all__ = ["NAME", "rows", "trials"]

NAME = "variants"
_MODULES = (
    variants_ghost,
    variants_domain,
    variants_renorm,
    variants_whitened,
    variants_conditional,
    variants_sequence,
    variants_recurrent,
)


def trials(*, quick: bool = False) -> list[Trial]:
    """All rows of one process; the quick ones are the first of each variant."""
    found = [trial for module in _MODULES for trial in module.trials()]
    if not quick:
        return found
    return [next(group) for _, group in groupby(found, key=lambda trial: trial.variant)]


def rows(context: Context) -> list[tuple[str, Callable[[], Row]]]:
    """Key and maker of every row."""
    found = [_entry(trial, context) for trial in trials(quick=context.quick)]
    return found + variants_sync.rows(context)


def _entry(trial: Trial, context: Context) -> tuple[str, Callable[[], Row]]:
    return trial.key, lambda: guarded(trial.key, trial.facts, lambda: make_row(trial, context))
