"""Rules of the experiment on regularisation: regularisers at the strengths that suit them best."""

from itertools import chain, combinations

import polars as pl

from .._dropout import BATCH
from .._rules import above, at_best, below, between, values
from ..claims import Finding
from ..summary import Estimate, difference, estimate, ratio
from ..words import points

__all__ = [
    "SWITCHES",
    "falls_as_root",
    "gain",
    "ghosts",
    "named",
    "repaired",
    "shifted_variance",
    "shifts_less",
    "smaller_gap",
]

SWITCHES = ("dropout", "l2", "shifts")
CHOSEN = ("lr", "dropout", "l2")
Side = tuple[str, tuple[str, ...]]
"""An arm and the regularisers that it has."""


def _chosen(frame: pl.DataFrame, arm: str, on: tuple[str, ...]) -> pl.DataFrame:
    """An arm with these regularisers and no other, at the strengths best for held-out data."""
    trials = frame.filter(
        *((pl.col(name).cast(float) > 0) == (name in on) for name in SWITCHES),
        arm=arm,
        ghost=BATCH,
    )
    for place, setting in enumerate(CHOSEN, 1):
        trials = at_best(trials, setting, "held_out_error", CHOSEN[place:])

    return trials


def _gains(frame: pl.DataFrame, mine: Side, theirs: Side) -> list[float]:
    """Test accuracy of one side minus that of the other, seed by seed."""
    one, other = (values(_chosen(frame, *side), "accuracy", side[0]) for side in (mine, theirs))

    return [a - b for a, b in zip(one, other, strict=True)]


def gain(frame: pl.DataFrame, mine: Side, theirs: Side) -> Estimate:
    return estimate(_gains(frame, mine, theirs))


def shifts_less(frame: pl.DataFrame) -> Finding:
    plain, batch = (_gains(frame, (arm, ("shifts",)), (arm, ())) for arm in ("plain", "batch"))
    saved = difference(plain, batch)

    return above(saved, 0.0, "{} points more gained by shifts without batch norm", points)


def repaired(frame: pl.DataFrame) -> Finding:
    trials = _chosen(frame, "batch", ("dropout",))
    pairs = (values(trials, name, "batch") for name in ("recalibrated", "accuracy"))
    gained = difference(*pairs)

    return above(gained, 0.0, "{} points by new statistics", points)


def ghosts(frame: pl.DataFrame) -> pl.DataFrame:
    """Bare batch norm over few and many examples."""
    trials = frame.filter(arm="batch", shifts=False, dropout=0.0, l2=0.0).with_columns(
        gap=pl.col("train_accuracy") - pl.col("accuracy")
    )

    return at_best(trials, "lr", "held_out_error", ["ghost"])


def _small_and_whole(frame: pl.DataFrame, measured: str) -> tuple[list[float], list[float]]:
    trials = ghosts(frame)
    small, whole = (
        values(trials, measured, "batch", ghost=size) for size in (trials["ghost"].min(), BATCH)
    )

    return small, whole


def smaller_gap(frame: pl.DataFrame) -> Finding:
    pairs = zip(*_small_and_whole(frame, "gap"), strict=True)

    return below(
        estimate([small - whole for small, whole in pairs]),
        0.0,
        "{} points of gap with the fewest examples, beside that with 64",
        points,
    )


def falls_as_root(frame: pl.DataFrame) -> Finding:
    fewest = frame["ghost"].min()
    assert isinstance(fewest, int)
    pairs = zip(*_small_and_whole(frame, "noise"), strict=True)

    return between(
        ratio([small / whole / (BATCH / fewest) ** 0.5 for small, whole in pairs]),
        0.8,
        1.25,
        "{} times the ratio that the root gives",
    )


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """Accuracy on both parts by arm and regularisers, at the strengths best for held-out data."""
    parts = {"accuracy": "test", "train_accuracy": "training"}
    rows = [
        _chosen(frame, arm, on)
        .select("arm", "seed", *parts)
        .rename(parts)
        .unpivot(index=("arm", "seed"), variable_name="part", value_name="share")
        .with_columns(regularisers=pl.lit(" + ".join(on).replace("l2", "L2") or "none"))
        for arm in frame["arm"].unique(maintain_order=True)
        for on in chain.from_iterable(combinations(SWITCHES, n) for n in range(4))
        if arm != "last" or "dropout" in on
    ]

    return pl.concat(rows)


def shifted_variance(frame: pl.DataFrame) -> Finding:
    """Whether norms meet less variance at test time than in training with dropout."""
    ratios = ratio(values(_chosen(frame, "batch", ("dropout",)), "shift", "batch"))

    return below(ratios, 1.0, "{} times the variance")
