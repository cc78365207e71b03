"""Figure 1: what a trial returns, and verdicts that follow from made-up numbers."""

import math

import polars as pl
import pytest
import torch

from batchnorm.lab import Trial
from batchnorm.lab.experiments._figure1_claims import better, faster, higher_rate, same, steadier
from batchnorm.lab.experiments._figure1_result import (
    Agreement,
    ArmCurve,
    SweepRow,
    agreement,
    arm_curves,
    first_reach,
    sweep_rows,
)
from batchnorm.lab.experiments.figure1 import EXPERIMENT, _percentiles, measure
from batchnorm.lab.summary import estimate
from tests.lab.small import random_data

TINY = {"lr": 0.1, "steps": 12, "evaluations": 3, "early_losses": 10, "hidden": 16}


def row(arm: str, seed: int, **measured: object) -> dict[str, object]:
    """A trial of three steps, tested after two of them."""
    usual = {
        "lr": 0.1,
        "at": [1, 3],
        "accuracies": [0.5, 0.8],
        "accuracy": 0.8,
        "percentiles": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "losses": [2.0, 1.0],
        "nudged": [],
        "shift": 1.0,
        "stretch": 1.0,
        "step_ms": 1.0,
        "loss": 1.0,
        "trains": True,
    }
    return {"arm": arm, "seed": seed, **usual, **measured}


def test_trial_returns_what_was_promised():
    data = random_data()
    found = {arm: measure(Trial("", arm, "", "", 0, TINY), data) for arm in EXPERIMENT.arms}

    for measured in found.values():
        assert set(measured) == set(EXPERIMENT.measured)
        assert measured["accuracy"] == measured["accuracies"][-1]
        assert len(measured["losses"]) == 10
    nudged, losses = found["torch"]["nudged"], found["torch"]["losses"]
    assert nudged != losses
    assert nudged == pytest.approx(losses, rel=1e5 * torch.finfo(torch.float32).eps)
    assert found["plain"]["nudged"] == []


def test_trial_that_diverges_has_numbers():
    found = measure(Trial("", "plain", "", "", 0, TINY | {"lr": 1e38}), random_data())

    assert not found["trains"]
    assert found["loss"] == math.inf
    assert 0 <= found["accuracy"] <= 1


def test_curves_are_summed_up_by_arm():
    frame = pl.DataFrame(
        [
            row("plain", 0),
            row("plain", 1, accuracies=[0.6, 0.7], accuracy=0.7),
            row("batchnorm", 0, accuracies=[0.8, 0.9], accuracy=0.9, step_ms=3.0),
            # Stopped before its second test.
            row("batchnorm", 1, at=[1], accuracies=[0.1], accuracy=0.1, step_ms=5.0),
        ]
    )

    arms = arm_curves(frame)

    assert list(arms) == ["plain", "batchnorm"]
    assert arms["plain"].reach == [3, 3]
    assert arms["batchnorm"].reach == [1, None]
    assert arms["batchnorm"].steps == [1, 3]
    assert [e.values for e in arms["batchnorm"].accuracy] == [(0.8, 0.1), (0.9, 0.1)]
    assert arms["batchnorm"].step_ms == 4


def test_agreement_is_the_largest_over_seeds():
    frame = pl.DataFrame(
        [
            row("batchnorm", 0, losses=[2.0, 1.1]),
            row("batchnorm", 1, losses=[2.2, 1.0]),
            row("torch", 0, nudged=[2.0, 1.0]),
            row("torch", 1, nudged=[2.0, 1.5]),
        ]
    )

    found = agreement(frame)

    assert found.ours == pytest.approx([0.1, 0.1])
    assert found.nudged == pytest.approx([0.0, 0.5])


def test_sweep_has_a_row_per_arm_and_rate():
    frame = pl.DataFrame(
        [
            row(arm, seed, lr=lr, trains=lr < 1, accuracy=lr, loss=lr + seed)
            for arm in ("plain", "batchnorm")
            for seed in (0, 1)
            for lr in (2.0, 0.5)
        ]
    )

    rows = sweep_rows(frame)

    assert [(r.lr, r.arm) for r in rows] == [
        (0.5, "batchnorm"),
        (0.5, "plain"),
        (2.0, "batchnorm"),
        (2.0, "plain"),
    ]
    assert rows[0].trains == [True, True]
    assert rows[3].trains == [False, False]
    assert rows[0].loss == 1.0
    assert rows[3].accuracy.values == (2.0, 2.0)


def test_bands_are_those_of_the_first_seed():
    rows = _percentiles(pl.DataFrame([row("plain", 0), row("plain", 1), row("torch", 0)]))

    assert rows.select("at", "low", "middle", "high").rows() == [(1, 0, 1, 2), (3, 3, 4, 5)]


def test_first_reach_is_the_first_step_at_or_above():
    run = {"at": [10, 20, 30], "accuracies": [0.5, 0.8, 0.7]}

    assert first_reach(run, 0.7) == 20
    assert first_reach(run, 0.5) == 10
    assert first_reach(run, 0.9) is None


def arm(name: str, reach: list[int | None], final: list[float]) -> ArmCurve:
    one = estimate([1.0, 1.0])
    return ArmCurve(name, name, [100], [one], estimate(final), reach, [], one, one, 1.0)


@pytest.mark.parametrize(
    ("reach", "verdict", "words"),
    [
        ([10, 10], "holds", "after 10 (geometric mean; 10 to 10 over seeds)"),
        ([10, None], "undecided", "in 1 of 2 seeds"),
        ([None, None], "fails", "in 0 of 2 seeds"),
        ([400, 400], "fails", "0.25 times as many"),
    ],
)
def test_faster_is_judged_by_steps(reach: list[int | None], verdict: str, words: str):
    arms = {
        "plain": arm("plain", [100, 100], [0.8, 0.82]),
        "batchnorm": arm("batchnorm", reach, [0.9, 0.9]),
    }

    finding = faster(arms)

    assert finding.verdict == verdict
    assert words in finding.evidence


def sweep(plain: list[list[bool]], ours: list[list[bool]]) -> list[SweepRow]:
    one = estimate([0.5, 0.5])
    rates = (1.0, 2.0, 4.0, 8.0, 16.0)
    return [
        SweepRow(name, lr, trains, one, 1.0)
        for name, rows in (("plain", plain), ("batchnorm", ours))
        for lr, trains in zip(rates, rows, strict=True)
    ]


YES, NO = [True, True], [False, False]


@pytest.mark.parametrize(
    ("plain", "ours", "verdict", "words"),
    [
        ([YES, NO, NO, NO, NO], [YES, YES, YES, YES, NO], "holds", "1 without, 8 with"),
        # Twice the rate is within what the grid can tell.
        ([YES, NO, NO, NO, NO], [YES, YES, NO, NO, NO], "undecided", "interval 1.0 to 4.0"),
        ([NO] * 5, [YES] * 5, "undecided", "none of the grid without, 16 or more (the grid ends"),
        ([YES, YES, YES, YES, NO], [YES, NO, NO, NO, NO], "fails", "8 without, 1 with"),
    ],
)
def test_higher_rate_is_judged_by_the_grid(plain, ours, verdict: str, words: str):
    finding = higher_rate(sweep(plain, ours))

    assert finding.verdict == verdict
    assert words in finding.evidence.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(("ours", "verdict"), [(1.9e-7, "holds"), (2.1e-7, "fails")])
def test_agreement_is_judged_by_a_rounding(ours: float, verdict: str):
    check = Agreement([1e-8, ours], [0.0, 1e-7], estimate([0.0, 0.0]))

    assert same(check).verdict == verdict


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [([0.9, 0.91], "holds"), ([0.5, 0.51], "fails"), ([0.9, 0.5], "undecided")],
)
def test_better_is_judged_by_the_end(ours: list[float], verdict: str):
    arms = {
        "plain": arm("plain", [100, 100], [0.8, 0.82]),
        "batchnorm": arm("batchnorm", [10, 10], ours),
    }

    assert better(arms).verdict == verdict


def test_steadier_needs_movement():
    still, some, more = (estimate([v, 1.01 * v]) for v in (0.0, 1.0, 4.0))

    assert steadier(more, some, "it moves", "widths").verdict == "holds"
    assert steadier(some, more, "it moves", "widths").verdict == "fails"
    assert steadier(some, still, "it moves", "widths").verdict == "undecided"
