"""The experiment: what it plans, that it resumes, and that its claims follow from its numbers."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchnorm.lab.experiments import figure1
from batchnorm.lab.experiments._figure1_claims import _faster, _higher_rate, _same
from batchnorm.lab.experiments._figure1_result import Agreement, ArmCurve, SweepRow, first_reach
from batchnorm.lab.store import TrialStore
from batchnorm.lab.summary import estimate
from batchnorm.lab.training import TrialConfig, TrialResult
from tests.lab.small import SMALL, result

PLANNED = 3 * 2 + 2 + 2 * 2 * 2  # curves, nudged, sweep


def test_plan_has_every_arm_seed_and_rate():
    planned = figure1.plan(SMALL, "digest")

    assert set(planned.curves) == {(a, s) for a in ("plain", "batchnorm", "torch") for s in (0, 1)}
    assert len(planned.trials) == PLANNED
    assert len(set(planned.trials)) == PLANNED
    assert planned.trials[0].steps == 12
    assert {trial.nudged for trial in planned.nudged.values()} == {True}
    assert {trial.steps for trial in planned.sweep.values()} == {SMALL.sweep_steps}


def test_second_run_repeats_nothing(tmp_path: Path, monkeypatch):
    first = result(tmp_path)
    monkeypatch.setattr(figure1, "run_trial", lambda *_, **__: pytest.fail("ran again"))

    second = result(tmp_path)

    assert (first.trials, first.reused) == (PLANNED, 0)
    assert (second.trials, second.reused) == (PLANNED, PLANNED)
    assert second.arms == first.arms
    assert second.claims == first.claims


def test_interrupted_run_goes_on_where_it_was(tmp_path: Path):
    store = TrialStore(tmp_path, "code")
    seen: list[TrialConfig] = []

    def stop_after_five(trial: TrialConfig) -> None:
        seen.append(trial)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        figure1.run(SMALL, store, done=stop_after_five)
    assert len(list(tmp_path.iterdir())) == 5

    rest: list[TrialConfig] = []
    progress: list[tuple[int, int]] = []
    whole = figure1.run(
        SMALL, store, done=rest.append, started=lambda *steps: progress.append(steps)
    )

    assert len(rest) == PLANNED - 5
    assert not set(rest) & set(seen)
    assert whole.reused == 5
    planned = figure1.plan(SMALL, whole.dataset.digest).trials
    assert progress == [(sum(t.steps for t in planned), sum(t.steps for t in seen))]


def test_no_resume_runs_everything_again(tmp_path: Path):
    store = TrialStore(tmp_path, "code")
    figure1.run(SMALL, store)
    ran: list[TrialConfig] = []

    figure1.run(SMALL, store, resume=False, done=ran.append)

    assert len(ran) == PLANNED


def test_killed_process_keeps_its_finished_trials(tmp_path: Path):
    code = (
        "import sys, time; from tests.lab.small import SMALL; from pathlib import Path\n"
        "from batchnorm.lab.experiments import figure1\n"
        "from batchnorm.lab.store import TrialStore\n"
        "figure1.run(SMALL, TrialStore(Path(sys.argv[1]), 'code'), done=lambda t: time.sleep(0.3))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while len(list(tmp_path.glob("*.json"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert 3 <= len(kept) < PLANNED

    whole = result(tmp_path)

    assert whole.reused == len(kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_processes_give_the_numbers_of_one(tmp_path: Path):
    one = result(tmp_path / "one")
    two = figure1.run(SMALL, TrialStore(tmp_path / "two", "code"), jobs=2)

    assert dataclasses.replace(two.arms["batchnorm"], step_ms=0) == dataclasses.replace(
        one.arms["batchnorm"], step_ms=0
    )
    assert two.sweep == one.sweep


@pytest.mark.parametrize("name", ["seeds", "steps"])
def test_nothing_to_run_is_refused(name: str):
    with pytest.raises(ValueError, match=rf"{name} must be at least 1\. Got {name}=0"):
        figure1.Config(**{name: 0})


def run_of(steps: list[int], accuracy: list[float]) -> TrialResult:
    return TrialResult(steps, accuracy, [], 1.0, 1.0, [], 0.5, 1.0)


def test_first_reach_is_the_first_step_at_or_above():
    run = run_of([10, 20, 30], [0.5, 0.8, 0.7])

    assert first_reach(run, 0.7) == 20
    assert first_reach(run, 0.5) == 10
    assert first_reach(run, 0.9) is None


def arm(name: str, reach: list[int | None], final: list[float]) -> ArmCurve:
    one = estimate([1.0, 1.0])
    return ArmCurve(name, name, [100], [one], estimate(final), reach, [], one, one, 1.0)


@pytest.mark.parametrize(
    ("reach", "verdict", "words"),
    [
        ([10, 10], "holds", "after 10 steps (geometric mean; 10 to 10 over seeds)"),
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

    claim = _faster(100, arms)

    assert claim.verdict == verdict
    assert words in claim.evidence


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
    claim = _higher_rate(100, sweep(plain, ours))

    assert claim.verdict == verdict
    assert words in claim.evidence.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(("ours", "verdict"), [(1.9e-7, "holds"), (2.1e-7, "fails")])
def test_agreement_is_judged_by_a_rounding(ours: float, verdict: str):
    check = Agreement([1e-8, ours], [0.0, 1e-7], estimate([0.0, 0.0]))

    assert _same(check).verdict == verdict
