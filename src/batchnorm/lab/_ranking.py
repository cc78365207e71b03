"""Which combination of norm, batch size and learning rate to take."""

import math
from collections.abc import Mapping

import polars as pl

from ._rules import above
from ._study import Study
from .claims import Finding
from .summary import Estimate, difference, estimate

__all__ = ["best_of", "in_words", "lead", "ranking"]

COMBINATION = ("arm", "batch_size", "lr")


def best_of(trials: pl.DataFrame) -> pl.DataFrame:
    """Those of the combination with the highest mean score; one that is not finite comes last."""
    return trials.join(_means(trials).head(1), on=COMBINATION, how="semi").sort("seed")


def ranking(study: Study) -> pl.DataFrame:
    """Combinations of a comparison, the best first.

    Args:
        study: as :func:`compare` returns it.

    Returns:
        A row for each: what it is; its mean ``score`` with the 95 % interval over seeds; how far
        it is ``behind`` the best one, seed by seed, with the interval; and ``worse``: whether that
        interval lies above zero. Where it does not, these seeds cannot tell the two apart.
    """
    combinations = _means(study.trials).rows()
    scores = [_scores(study.trials, combination) for combination in combinations]
    rows = []
    for (arm, size, lr), mine in zip(combinations, scores, strict=True):
        found, behind = estimate(mine), _lead(scores[0], mine)
        rows.append(
            {
                "norm": study.experiment.arms[arm],
                "batch_size": size,
                "lr": lr,
                "score": found.mean,
                "low": found.low,
                "high": found.high,
                "behind": behind.mean,
                "behind_low": behind.low,
                "behind_high": behind.high,
                "worse": behind.low > 0 or not math.isfinite(found.mean),
            }
        )

    return pl.DataFrame(rows)


def lead(arms: Mapping[str, str], trials: pl.DataFrame) -> Finding:
    """Whether the best combination is ahead of the second.

    Args:
        arms: label by name.
        trials: a row per trial.
    """
    first, *others = _means(trials).rows()
    best = _scores(trials, first)
    if not others:
        return Finding("undecided", estimate(best), "there is one combination")
    names = [in_words(arms[arm], size, lr) for arm, size, lr in (first, others[0])]
    ahead = _lead(best, _scores(trials, others[0]))

    return above(ahead, 0.0, f"{names[0]} is {{}} ahead of {names[1]}")


def in_words(norm: str, size: int, lr: float) -> str:
    """A combination for people."""
    return f"{norm}, rate {lr:g}, batches of {size}"


def _lead(best: list[float], other: list[float]) -> Estimate:
    return difference(best, other)


def _means(trials: pl.DataFrame) -> pl.DataFrame:
    """Every combination, the highest mean score first."""
    mean = pl.col("score").mean().fill_nan(-math.inf)
    means = trials.group_by(COMBINATION).agg(mean)
    descending = [True, *(False for _ in COMBINATION)]

    return means.sort("score", *COMBINATION, descending=descending).select(COMBINATION)


def _scores(trials: pl.DataFrame, combination: tuple[object, ...]) -> list[float]:
    chosen = dict(zip(COMBINATION, combination, strict=True))

    return trials.filter(**chosen).sort("seed")["score"].to_list()
