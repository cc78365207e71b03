"""Trials made by hand, and what an experiment concludes from them."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from batchnorm.lab import Experiment
from batchnorm.lab.claims import Finding


def finding(experiment: Experiment, words: str, rows: Iterable[Mapping[str, Any]]) -> Finding:
    """What the claim with `words` in its statement says of trials with these columns."""
    (question,) = [q for q in experiment.questions if words in q.statement]

    return question.judge(pl.DataFrame(list(rows)))


def verdict(experiment: Experiment, words: str, rows: Iterable[Mapping[str, Any]]) -> str:
    return finding(experiment, words, rows).verdict
