"""The demo: what it runs, and that it goes on where it was."""

import dataclasses
from pathlib import Path

import pytest

from batchnorm.lab import demo
from batchnorm.lab.experiments.figure1 import EXPERIMENT
from batchnorm.lab.models import ARMS
from batchnorm.lab.training import TrialConfig
from tests.lab.small import SMALL, result

PLANNED = 3 * 2 + 2 * 2 * 2  # curves, sweep


def test_every_arm_seed_and_rate_is_run():
    curves, sweep = (
        experiment.trials(experiment.grid("default"), {"digits": "d"})
        for experiment in demo.experiments(SMALL)
    )

    assert {(t.arm, t.seed) for t in curves} == {(arm, seed) for arm in ARMS for seed in (0, 1)}
    assert {(t.arm, t.seed, t["lr"]) for t in sweep} == {
        (arm, seed, lr) for arm in ("plain", "batchnorm") for seed in (0, 1) for lr in (0.5, 64.0)
    }
    assert {t["steps"] for t in curves} == {12}
    assert {t["steps"] for t in sweep} == {SMALL.sweep_steps}


def test_defaults_are_those_of_the_experiment():
    config = demo.Config()
    curves, _ = demo.experiments(config)
    (settings,) = curves.grid("default").of("digits")
    (plain,) = EXPERIMENT.grid("default").of("digits")

    assert TrialConfig("plain", 0, **settings) == TrialConfig("plain", 0, **plain)


def test_second_run_repeats_nothing(tmp_path: Path):
    first, second = result(tmp_path), result(tmp_path)

    assert (first.trials, first.reused) == (PLANNED, 0)
    assert (second.trials, second.reused) == (PLANNED, PLANNED)
    assert second.arms == first.arms
    assert second.claims == first.claims


def test_progress_is_in_steps(tmp_path: Path):
    steps: list[float] = []
    begun: list[tuple[str, float, float]] = []

    demo.run(
        SMALL,
        tmp_path,
        jobs=1,
        started=lambda experiment, *work: begun.append((experiment.name, *work)),
        done=steps.append,
    )

    assert begun == [("figure1", 6 * 12, 0), ("sweep", 8 * SMALL.sweep_steps, 0)]
    assert sum(steps) == 6 * 12 + 8 * SMALL.sweep_steps


def test_processes_give_the_numbers_of_one(tmp_path: Path):
    one = result(tmp_path / "one")
    two = demo.run(SMALL, tmp_path / "two", jobs=2)

    assert dataclasses.replace(two.arms["batchnorm"], step_ms=0) == dataclasses.replace(
        one.arms["batchnorm"], step_ms=0
    )
    assert two.sweep == one.sweep


def test_claims_are_in_the_order_of_the_report(tmp_path: Path):
    claims = result(tmp_path).claims

    assert len(claims) == 7
    assert "in fewer steps" in claims[0].statement
    assert "higher learning rates" in claims[2].statement
    assert "train alike" in claims[-1].statement


@pytest.mark.parametrize("name", ["seeds", "steps"])
def test_nothing_to_run_is_refused(name: str):
    with pytest.raises(ValueError, match=rf"{name} must be at least 1\. Got {name}=0"):
        demo.Config(**{name: 0})
