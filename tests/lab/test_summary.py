"""Intervals and verdicts against values worked out by hand."""

import math

import pytest

from batchnorm.lab import words
from batchnorm.lab.claims import verdict
from batchnorm.lab.summary import estimate, paired_shares, ratio, shares


@pytest.mark.parametrize(
    ("met", "low", "high"),
    [
        ([False] * 3, 0.0, 1 - 0.025 ** (1 / 3)),  # none of n: 1 − (α/2)^(1/n)
        ([True] * 9, 0.025 ** (1 / 9), 1.0),
        ([True, False], 1 - 0.975**0.5, 0.975**0.5),
    ],
)
def test_a_share_has_the_exact_interval(met, low, high):
    found = shares(met)

    assert found.mean == sum(met) / len(met)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_interval_is_students():
    found = estimate([1.0, 2.0, 3.0])

    # t for 2 degrees of freedom at 97.5 %: 4.302653.
    half = 4.302652729911275 / math.sqrt(3)
    assert found.mean == 2
    assert found.spread == 1
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_one_seed_decides_nothing():
    found = estimate([5.0])

    assert (found.low, found.high) == (-math.inf, math.inf)
    assert verdict(found, 0) == "undecided"
    assert verdict(ratio([5.0]), 1) == "undecided"
    assert words.interval(ratio([5.0])) == "no interval from one seed"


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="at least one value"):
        estimate([])


def test_ratio_is_geometric_and_widened_by_its_grid():
    found = ratio([2.0, 8.0])
    wide = ratio([4.0, 4.0], grid=2.0)

    assert found.mean == pytest.approx(4)
    assert found.low * found.high == pytest.approx(16)
    assert (wide.low, wide.high) == pytest.approx((2, 8))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 1.1], "holds"), ([-1.0, -1.1], "fails"), ([-1.0, 1.0], "undecided")],
)
def test_verdict_follows_the_interval(values: list[float], expected: str):
    assert verdict(estimate(values), 0) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.percent(0.9312), "93.1 %"),
        (words.points(-0.0212), "−2.1"),
        (words.points(-1e-9), "0"),
        (words.factor(113.4), "113"),
        (words.factor(5.55), "5.5"),
        (words.factor(0.0171), "0.017"),
        (words.factor(math.inf), "∞"),
        (words.power(3.6e-7), "4×10⁻⁷"),
        (words.power(0.0), "0"),
        (words.power(-2e-3), "−2×10⁻³"),
    ],
)
def test_numbers_in_words(text: str, expected: str):
    assert text.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_paired_shares_have_the_exact_interval():
    # Eight draws tell apart, two do not; Clopper and Pearson's lower end for 8 of 8 is 0.025^(1/8).
    found = paired_shares([True] * 9 + [False], [False] * 8 + [True, False])

    assert found.mean == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx(((2 * 0.025 ** (1 / 8) - 1) * 0.8, 0.8))
    assert paired_shares([False, True], [True, False]).mean == 0


def test_shares_that_nothing_tells_apart_decide_nothing():
    found = paired_shares([True, False], [True, False])

    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert verdict(found, 0) == "undecided"
    assert verdict(paired_shares([True], [False]), 0) == "undecided"


@pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, math.inf])
def test_a_ratio_that_is_none_decides_nothing(odd):
    found = ratio([2.0, odd])

    assert verdict(found, 1) == "undecided"
    assert words.interval(found) == "no interval"
