"""From trials to findings, against values worked out by hand."""

import math

import polars as pl
import pytest

from batchnorm.lab._rules import (
    above,
    at_best,
    below,
    between,
    differences,
    highest,
    ratios,
    values,
)
from batchnorm.lab.claims import Finding, overall, within
from batchnorm.lab.summary import estimate

FRAME = pl.DataFrame(
    [("a", 0, 1, 2.0), ("a", 0, 2, 4.0), ("a", 1, 1, 6.0), ("b", 1, 1, 2.0), ("b", 0, 1, 1.0)],
    schema=["arm", "seed", "lr", "x"],
    orient="row",
)


def test_values_are_by_seed_and_averaged_within_one():
    assert values(FRAME, "x", "a") == [3.0, 6.0]
    assert values(FRAME, "x", "b") == [1.0, 2.0]
    assert values(FRAME, "x", "a", lr=1) == [2.0, 6.0]


def test_values_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"Got none of arm 'a' with \{'lr': 3\}"):
        values(FRAME, "x", "a", lr=3)


def test_pairs_are_of_one_seed():
    assert differences(FRAME, "x", "a", "b").values == (2.0, 4.0)
    assert ratios(FRAME, "x", "a", "b").values == (3.0, 3.0)


def test_a_ratio_to_nothing_is_undecided():
    still = FRAME.with_columns(x=pl.when(arm="b").then(0.0).otherwise("x"))

    assert above(ratios(still, "x", "a", "b"), 1.0, "{}").verdict == "undecided"
    assert above(ratios(still, "x", "b", "a"), 1.0, "{}").verdict == "undecided"


RATES = pl.DataFrame(
    [
        ("a", 0, 0.1, "x", 3.0),
        ("a", 1, 0.1, "x", 4.0),
        ("a", 0, 1.0, "x", 1.0),
        ("a", 1, 1.0, "x", 2.0),
        ("a", 0, 0.1, "y", 2.0),
        ("a", 0, 1.0, "y", 2.0),
        ("b", 0, 0.1, "x", 8.0),
        ("b", 0, 1.0, "x", math.nan),
    ],
    schema=["arm", "seed", "lr", "act", "loss"],
    orient="row",
)


def test_each_arm_has_its_own_best_rate():
    best = at_best(RATES, "lr", "loss", per=("act",))

    assert best["arm", "act", "lr"].unique().sort("arm", "act").rows() == [
        ("a", "x", 1.0),
        ("a", "y", 0.1),  # of two alike the lower
        ("b", "x", 0.1),  # what is not finite comes last
    ]
    assert best.height == 4


def test_without_other_settings_they_are_averaged():
    assert at_best(RATES, "lr", "loss").filter(arm="a")["lr"].unique().to_list() == [1.0]


def test_highest_is_by_seed_and_may_be_missing():
    assert highest(RATES, "lr", "a", pl.col("loss") < 3.5) == [1.0, 1.0]
    assert highest(RATES, "lr", "a", pl.col("loss") < 1.5) == [1.0, None]
    assert highest(RATES, "lr", "b", pl.col("loss") < 3.5) == [None]


@pytest.mark.parametrize(
    ("rule", "numbers", "expected"),
    [
        (above, [1.0, 1.1, 1.2], "holds"),
        (above, [-1.0, -1.1], "fails"),
        (above, [-1.0, 1.0], "undecided"),
        (above, [1.0], "undecided"),
        (below, [1.0, 1.1, 1.2], "fails"),
        (below, [-1.0, -1.1], "holds"),
        (below, [-1.0, 1.0], "undecided"),
    ],
)
def test_verdict_follows_the_interval(rule, numbers, expected):
    assert rule(estimate(numbers), 0.5, "{}").verdict == expected


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0.0, 0.01], "holds"),
        ([5.0, 5.01], "fails"),
        ([-5.0, -5.01], "fails"),
        ([-2.0, 2.0], "undecided"),
        ([0.0], "undecided"),
        ([math.nan, math.nan], "undecided"),
    ],
)
def test_no_difference_must_be_shown(numbers, expected):
    assert within(estimate(numbers), -1.0, 1.0) == expected
    assert between(estimate(numbers), -1.0, 1.0, "{}").verdict == expected


def test_effect_size_is_the_distance_in_deviations():
    assert above(estimate([1.0, 2.0, 3.0]), 0.0, "{}").size == 2.0
    assert above(estimate([1.0, 2.0, 3.0]), 2.5, "{}").size == -0.5
    assert above(estimate([2.0, 2.0]), 0.0, "{}").size == math.inf
    assert above(estimate([2.0, 2.0]), 2.0, "{}").size == 0.0
    assert math.isnan(above(estimate([2.0]), 0.0, "{}").size)


def test_evidence_writes_a_minus_as_one():
    found = above(estimate([-1.5, -2.5]), 0.0, "{} well-known points", "{:.1f}".format)

    assert found.evidence == "−2.0 well-known points (95\N{NO-BREAK SPACE}% interval −8.4 to 4.4)"


def test_evidence_has_the_number_and_its_interval():
    found = above(estimate([0.9, 1.0, 1.1]), 0.0, "{} more", "{:.1f}".format)

    assert (
        found.evidence.replace("\N{NO-BREAK SPACE}", " ") == "1.0 more (95 % interval 0.8 to 1.2)"
    )


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["fails"], "fails"),
        (["holds", "fails"], "undecided"),
        (["holds", "undecided"], "undecided"),
        ([], "undecided"),
    ],
)
def test_datasets_must_agree(verdicts, expected):
    one = estimate([1.0])

    assert overall({str(i): Finding(v, one, "") for i, v in enumerate(verdicts)}) == expected
