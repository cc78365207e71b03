"""Norms over batch sizes: where two norms are one, and verdicts of planted curves."""

import math

import polars as pl
import pytest

from batchnorm.lab import Trial
from batchnorm.lab.data import load
from batchnorm.lab.experiments.norms import EXPERIMENT, GHOST, measure


def measured(arm: str, batch: int) -> dict[str, float]:
    settings = {"batch": batch, "rate": 0.1, "examples": 96, "steps": 4}
    data = load("digits")
    return measure(Trial("norms", arm, "digits", data.digest, 0, settings), data)


def test_batch_norm_of_one_image_trains_as_instance_norm():
    assert measured("batch", 1)["loss"] == pytest.approx(measured("instance", 1)["loss"], rel=1e-4)


def test_ghost_batch_norm_of_a_whole_batch_is_batch_norm():
    assert measured("ghost", GHOST) == pytest.approx(measured("batch", GHOST), rel=1e-4)


def test_a_ghost_batch_is_kept_where_it_is_a_part():
    batches = [
        batch for batch in (1, GHOST, 2 * GHOST) if EXPERIMENT.keep("ghost", {"batch": batch})
    ]

    assert batches == [2 * GHOST]
    assert EXPERIMENT.keep("batch", {"batch": 1})


def verdicts(**accuracy: tuple[float, float]) -> list[str]:
    """From each norm's accuracy at batch 2 and at batch 32; 60 % where nothing is said."""
    rows = [
        (arm, seed, batch, rate, at_best - (rate > 0.1) + seed / 1000, rate if arm != "none" else 1)
        for arm in EXPERIMENT.arms
        for batch, at_best in zip((2, 32), accuracy.get(arm, (0.6, 0.6)), strict=True)
        for rate in (0.1, 0.4)
        for seed in range(3)
    ]
    names = ["arm", "seed", "batch", "rate", "accuracy", "loss"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return [question.judge(frame).verdict for question in EXPERIMENT.questions]


def test_the_published_curve_holds():
    found = verdicts(
        batch=(0.65, 0.76),
        group=(0.76, 0.76),
        layer=(0.74, 0.74),
        instance=(0.71, 0.71),
        renorm=(0.7, 0.75),
        ghost=(0.65, 0.77),
    )

    assert found == ["holds"] * 8


def test_the_reverse_fails():
    found = verdicts(
        batch=(0.6, 0.6), group=(0.5, 0.7), layer=(0.7, 0.7), instance=(0.7, 0.7), none=(0.7, 0.7),
        renorm=(0.5, 0.5), ghost=(0.5, 0.5),
    )  # fmt: skip

    assert found == ["fails"] * 8


def test_norms_that_do_not_differ_are_undecided():
    assert verdicts()[2:] == ["undecided"] * 6


def test_a_rate_that_diverges_is_not_chosen():
    frame = pl.DataFrame(
        {
            "arm": ["batch", "batch"],
            "batch": [2, 2],
            "rate": [0.1, 0.4],
            "loss": [2.0, math.inf],
        }
    )

    assert EXPERIMENT.charts[0].rows(frame)["rate"].to_list() == [0.1]
