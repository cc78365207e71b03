"""Covariate shift and smoothness: looking changes nothing, and verdicts follow the measures."""

import copy
import math

import polars as pl
import pytest
import torch

import batchnorm
from batchnorm.lab import Trial, fit
from batchnorm.lab._noisy import NoisyBatchNorm1d
from batchnorm.lab._probe import Probe, moved
from batchnorm.lab.data import load
from batchnorm.lab.experiments.covariate_shift import EXPERIMENT, measure
from batchnorm.lab.models import Mlp

DATA = load("digits", flat=True)
NORMS = {
    "none": None,
    "batch": batchnorm.BatchNorm1d,
    "noisy": lambda units: NoisyBatchNorm1d(units, seed=units),
}


@pytest.mark.parametrize("norm", NORMS)
def test_looking_leaves_training_as_it_is(norm):
    def network():
        return Mlp(DATA.features, DATA.classes, NORMS[norm], seed=0, hidden=8)

    watched, alone = network(), network()
    probe = Probe(watched, DATA, lr=0.1)

    losses = fit(watched, DATA, lr=0.1, steps=4, seed=0, after=probe.look)

    assert losses == fit(alone, DATA, lr=0.1, steps=4, seed=0)
    states = zip(watched.state_dict().values(), alone.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    assert [row["at"] for row in probe.rows] == [1, 2, 3, 4]


def test_probe_measures_the_networks_own_slope():
    net = Mlp(DATA.features, DATA.classes, None, seed=0, hidden=8)
    probe = Probe(net, DATA, lr=1e-2)
    slope = torch.autograd.grad(probe._loss(), list(net.parameters()))
    length = math.sqrt(sum(float(s.square().sum()) for s in slope))

    probe.look(1)

    # To first order four short steps lower the loss by 4 · lr · length².
    assert probe.rows[0]["loss_range"] == pytest.approx(4e-2 * length**2, rel=0.02)
    assert probe.rows[0]["moved"] == 0


def test_moved_is_in_standard_deviations():
    mean, std = torch.zeros(2, 3), torch.full((2, 3), 2.0)
    constant = torch.tensor([[True, False, False], [False, False, False]])

    assert moved((mean, std), (mean + 6, std + 8)) == 5
    assert moved((mean, std), (mean, std)) == 0
    assert moved((mean, std.masked_fill(constant, 0)), (mean + 6, std + 8)) == 5


def frame(**measured: tuple[float, float, float]) -> pl.DataFrame:
    """Trials of three seeds: none, batch and noisy have these numbers, a little different."""
    return pl.DataFrame(
        [
            {"arm": arm, "seed": seed}
            | {
                name: of[place] + 0.001 * seed
                if name == "accuracy"
                else [of[place] * (1 + 0.01 * seed), 0.0, math.inf]
                for name, of in measured.items()
            }
            for place, arm in enumerate(("none", "batch", "noisy"))
            for seed in range(3)
        ]
    )


BETTER, STEADIER, TURNS, UNSTEADY, ALL_THE_SAME, *SMOOTHER = EXPERIMENT.questions


@pytest.mark.parametrize(
    ("question", "measured"),
    [
        (STEADIER, "moved"),
        *zip(SMOOTHER, ("loss_range", "gradient_change", "smoothness"), strict=True),
    ],
)
def test_less_with_batch_norm(question, measured):
    assert question.judge(frame(**{measured: (4.0, 2.0, 9.0)})).verdict == "holds"
    assert question.judge(frame(**{measured: (2.0, 4.0, 1.0)})).verdict == "fails"
    finding = question.judge(frame(**{measured: (3.0, 3.0, 1.0)}))
    assert finding.verdict == "undecided"
    assert finding.effect.mean == pytest.approx(1)


def test_other_comparisons():
    assert TURNS.judge(frame(gradient_shift=(2.0, 4.0, 0.0))).verdict == "holds"
    assert TURNS.judge(frame(gradient_shift=(4.0, 2.0, 0.0))).verdict == "fails"
    assert UNSTEADY.judge(frame(moved=(2.0, 9.0, 4.0))).verdict == "holds"
    assert UNSTEADY.judge(frame(moved=(2.0, 0.1, 1.0))).verdict == "fails"
    assert BETTER.judge(frame(accuracy=(0.8, 0.9, 0.1))).verdict == "holds"
    assert ALL_THE_SAME.judge(frame(accuracy=(0.8, 0.9, 0.1))).verdict == "fails"


def test_what_diverges_decides_nothing():
    for question in (STEADIER, *SMOOTHER):
        (measured,) = {"moved", "loss_range", "gradient_change", "smoothness"} & {
            question.judge.args[0]
        }
        broken = frame(**{measured: (math.nan, 2.0, 2.0)})
        assert question.judge(broken).verdict == "undecided"


def test_a_network_that_diverges_at_once_has_curves():
    trial = Trial("", "none", "digits", "", 0, {"lr": 1e20, "steps": 24})

    found = measure(trial, copy.copy(DATA))

    assert found["loss"] == math.inf
    assert len(found["at"]) == len(found["moved"]) >= 1
