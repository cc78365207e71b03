"""Random hyperparameters: what is drawn, and the verdicts on draws that were made up."""

import math
from collections.abc import Sequence

import polars as pl
import pytest
import torch

from batchnorm.lab.experiments.robustness import EXPERIMENT, _drawn, _reached, _scaled

REACH, CARELESS, FAILING, EQUAL = EXPERIMENT.questions
DRAWS = 12


def frame(
    mine: Sequence[float],
    theirs: Sequence[float],
    *,
    scale: float = 1.0,
    failed: tuple[float, float] = (0.0, 0.0),
) -> pl.DataFrame:
    """A draw per pair of accuracies, with and without batch norm."""
    arms = (("with", mine, failed[0]), ("without", theirs, failed[1]))
    return pl.DataFrame(
        [
            {"arm": arm, "seed": i, "accuracy": accuracy, "scale": scale, "failed": share}
            for arm, accuracies, share in arms
            for i, accuracy in enumerate(accuracies)
        ]
    )


GOOD, BAD = [0.9] * DRAWS, [0.3] * DRAWS


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        (GOOD, BAD, "holds"),
        (BAD, GOOD, "fails"),
        (GOOD, GOOD, "undecided"),
        # Five of five is not beyond chance: 0.025^(1/5) < 1/2.
        (GOOD[:5] + BAD[:7], BAD, "undecided"),
        ([0.9, *[0.86] * 11], BAD, "holds"),
        ([0.9, *[0.84] * 11], BAD, "undecided"),
    ],
)
def test_near_the_best_counts(mine, theirs, verdict):
    assert REACH.judge(frame(mine, theirs)).verdict == verdict


def test_evidence_has_both_shares():
    evidence = REACH.judge(frame(GOOD, BAD)).evidence.replace("\N{NO-BREAK SPACE}", " ")

    assert evidence.startswith(
        "+100.0 points: 0.0 % of 12 draws reach it without batch norm, 100.0 % with (95 % interval"
    )


def test_careless_looks_at_bad_starts_alone():
    near, far = frame(BAD, GOOD, scale=2.9), frame(GOOD, BAD, scale=1 / 3.1)
    far = far.with_columns(pl.col("seed") + DRAWS)

    assert CARELESS.judge(pl.concat([near, far])).verdict == "holds"
    assert CARELESS.judge(near).verdict == "undecided"


def test_failing_looks_at_losses_alone():
    assert FAILING.judge(frame(GOOD, GOOD, failed=(0.0, 1.0))).verdict == "holds"
    assert FAILING.judge(frame(GOOD, GOOD, failed=(1.0, 0.0))).verdict == "fails"
    assert FAILING.judge(frame(GOOD, GOOD, failed=(1.0, 1.0))).verdict == "undecided"


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        ([0.90, 0.891, 0.899], [0.899, 0.892, 0.90], "holds"),
        ([0.90, 0.901, 0.902], [0.87, 0.871, 0.872], "fails"),
        # What one network alone can do is another question.
        ([0.90, 0.891, 0.899], [0.899, 0.892, 0.1], "undecided"),
        (GOOD, BAD, "undecided"),
    ],
)
def test_equal_where_both_train(mine, theirs, verdict):
    assert EQUAL.judge(frame(mine, theirs)).verdict == verdict


def test_draws_are_their_seeds_and_in_their_ranges():
    drawn = [_drawn(seed) for seed in range(200)]
    rates = [draw["lr"] for draw in drawn]

    assert drawn == [_drawn(seed) for seed in range(200)]
    assert len(set(rates)) == 200
    assert 1e-3 <= min(rates) < 2e-3 < 5 < max(rates) <= 10
    assert min(draw["momentum"] for draw in drawn) >= 0
    assert 0.9 < max(draw["momentum"] for draw in drawn) <= 0.95
    # Evenly on a logarithm: the median is the middle, 0.1, within four standard errors.
    middle = sorted(map(math.log10, rates))[100]
    assert middle == pytest.approx(-1, abs=4 * 0.5 * 4 / math.sqrt(200))


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_start_is_scaled(scale):
    weight = torch.empty(300, 500)

    _scaled(scale, weight, torch.Generator().manual_seed(0))

    wanted = scale * math.sqrt(2 / 800)
    # The relative standard error of a standard deviation is 1/√(2n).
    assert float(weight.std()) == pytest.approx(wanted, rel=4 / math.sqrt(2 * weight.numel()))


def test_curve_is_the_share_that_reaches():
    rows = _reached(frame([0.2, 0.4, 0.6], [0.0, 0.0, 1.0]))

    def share(arm: str, accuracy: float) -> float:
        return rows.filter(arm=arm, accuracy=accuracy)["share"].item()

    assert [share("with", a) for a in (0.2, 0.22, 0.5, 0.62)] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [share("without", a) for a in (0.0, 0.02, 1.0)] == pytest.approx([1, 1 / 3, 1 / 3])
