"""Activations in training: what is measured belongs together, and verdicts of planted trials."""

import pytest

from batchnorm.lab import Trial
from batchnorm.lab.data import load
from batchnorm.lab.experiments.activations import EXPERIMENT, LOOKS, WIDTHS, measure

from .planted import verdict

CRASH = "crash without"
SMOOTH = "smoothly"
STEADY = "changes less"
NEAR_ONE = "near 1"
SPEAKING = "fewer activations"


def measured(arm: str, lr: float) -> dict:
    data = load("digits")
    settings = {"lr": lr, "steps": LOOKS}
    return measure(Trial("activations", arm, "digits", data.digest, 0, settings), data)


def test_batch_norm_begins_at_spread_one():
    found = measured("batch", 0.1)

    assert len(found["step"]) == (LOOKS + 1) * len(WIDTHS)
    assert found["std"][: len(WIDTHS)] == pytest.approx([1.0] * len(WIDTHS), rel=0.01)
    assert found["mean"][: len(WIDTHS)] == pytest.approx([0.0] * len(WIDTHS), abs=0.01)
    assert found["scale"] == pytest.approx(found["wander"], rel=0.02)


def test_a_run_that_diverges_has_fallen():
    assert measured("none", 1e6)["fall"] == 1.0


def rows(**batch: float) -> list[dict]:
    """Trials at two rates, the lower the better; what is said of batch norm is for the rate that
    a claim reads, the other has the numbers of no norm.
    """
    none = {"fall": 0.5, "wander": 4.0, "scale": 4.0, "silent": 0.5}
    read = {"fall": 1.0, "wander": 0.1, "scale": 0.1, "silent": 0.1}
    return [
        {"arm": arm, "seed": seed, "lr": lr, "loss": lr}
        | {
            key: (batch.get(key, value) if arm == "batch" and lr == read[key] else value)
            + seed / 1000
            for key, value in none.items()
        }
        for arm in EXPERIMENT.arms
        for lr in (0.1, 1.0)
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("claim", "name", "holds", "fails", "undecided"),
    [
        (CRASH, "fall", 0.2, 0.8, 0.5),
        (SMOOTH, "fall", 0.2, 0.8, 0.499),
        (STEADY, "wander", 2.0, 8.0, 4.0),
        (NEAR_ONE, "scale", 1.5, 3.0, 1.999),
        (SPEAKING, "silent", 0.4, 0.6, 0.5),
    ],
)
def test_planted_trials_have_the_planted_verdict(claim, name, holds, fails, undecided):
    found = [verdict(EXPERIMENT, claim, rows(**{name: x})) for x in (holds, fails, undecided)]

    assert found == ["holds", "fails", "undecided"]
