"""Raw features: the parts, the scales and the verdicts, against what is known."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import batchnorm
from batchnorm.lab import Trial
from batchnorm.lab.data import Dataset, load
from batchnorm.lab.experiments.raw_features import (
    EXPERIMENT,
    _explained,
    _parts,
    _scaled,
    _spread,
    measure,
)

STANDS_IN, SCALER_BETTER, NEEDED, NOTHING_MORE, EVERY_FEATURE = EXPERIMENT.questions
WINE = load("wine")


def test_a_fifth_is_held_out_and_nothing_is_lost():
    trains, held_out = _parts(WINE, seed=3)

    assert len(held_out.x_test) == len(WINE.x_train) // 5
    assert torch.equal(trains.x_train, held_out.x_train)
    assert torch.equal(trains.x_test, WINE.x_test)
    whole = torch.cat([trains.x_train, held_out.x_test])
    assert torch.equal(whole.sort(0).values, WINE.x_train.sort(0).values)
    assert not torch.equal(_parts(WINE, seed=4)[1].x_test, held_out.x_test)


def test_everything_is_scaled_by_what_trains():
    trains, held_out = _scaled(*_parts(WINE, seed=0))

    raw = _parts(WINE, seed=0)[0].x_train.double()
    shift, scale = raw.mean(0), raw.std(0, correction=0)
    for scaled, before in (
        (trains.x_train, raw),
        (trains.x_test, WINE.x_test.double()),
        (held_out.x_test, _parts(WINE, seed=0)[1].x_test.double()),
    ):
        assert scaled.numpy() == pytest.approx(((before - shift) / scale).numpy(), abs=1e-4)


def test_spread_of_a_tiny_feature_is_what_eps_leaves():
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean(0)) / x.std(0, correction=0) * torch.tensor([1.0, 1e-3, 1e3])
    data = replace(WINE, x_train=x)

    found = _spread(batchnorm.BatchNorm1d(3), data)

    # var / (var + eps) = 1e-6 / 1.1e-5
    assert found == pytest.approx((1 / 11) ** 0.5, rel=1e-4)
    assert _spread(nn.Identity(), data) == pytest.approx(1e-3, rel=1e-4)


def test_explained_is_scikit_learns():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.normal(size=50).astype("float32"))
    x = y[:, None] + 0.5
    data = Dataset("made", "made", "none", x, y, x, y, "d", classes=0)

    assert _explained(nn.Identity(), data) == pytest.approx(r2_score(y, x[:, 0]), rel=1e-5)


@pytest.mark.parametrize("off", [1e20, float("inf"), float("nan")])
def test_what_diverged_explains_nothing(off):
    x, y = torch.full((4, 1), off), torch.tensor([1.0, -1.0, 1.0, -1.0])
    data = Dataset("made", "made", "none", x, y, x, y, "d", classes=0)

    assert _explained(nn.Identity(), data) == 0


def test_scaled_features_train_where_raw_ones_do_not():
    found = {
        arm: measure(Trial("", arm, "wine", "", 0, {"lr": 0.01, "steps": 100}), WINE)
        for arm in EXPERIMENT.arms
    }

    assert found["nothing"]["score"] < 0.6
    assert all(found[arm]["score"] > 0.9 for arm in ("scaler", "norm", "both"))


def frame(**scores: list[float]) -> pl.DataFrame:
    """Scores by arm and seed at the rate that suits all best, and better ones at another."""
    return pl.DataFrame(
        [
            {"arm": arm, "seed": seed, "lr": lr, "held_out": loss, "score": score, "spread": 1.0}
            for arm, mine in scores.items()
            for seed, at_best in enumerate(mine)
            for lr, loss, score in ((0.1, 0.2, at_best), (1.0, 0.3, 1.0))
        ]
    )


HIGH, ALIKE, LOW = [0.90, 0.91, 0.92], [0.905, 0.915, 0.913], [0.4, 0.41, 0.45]


@pytest.mark.parametrize(
    ("question", "arm", "other", "verdicts"),
    [
        (STANDS_IN, "norm", "scaler", ("holds", "fails", "fails")),
        (SCALER_BETTER, "scaler", "norm", ("undecided", "holds", "fails")),
        (NEEDED, "norm", "nothing", ("undecided", "holds", "fails")),
        (NOTHING_MORE, "both", "scaler", ("holds", "fails", "fails")),
    ],
)
def test_verdicts_compare_the_best_rates(question, arm, other, verdicts):
    pairs = ((HIGH, ALIKE), (HIGH, LOW), (LOW, HIGH))

    found = [question.judge(frame(**{arm: mine, other: theirs})) for mine, theirs in pairs]

    assert tuple(finding.verdict for finding in found) == verdicts


def test_one_feature_that_stays_small_decides():
    whole = frame(norm=HIGH)

    assert EVERY_FEATURE.judge(whole).verdict == "holds"
    small = whole.with_columns(spread=pl.lit(0.6))
    assert EVERY_FEATURE.judge(small).verdict == "fails"
