"""Every trial runs once, whatever happens meanwhile, and the verdicts follow from all of them."""

import errno
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import torch

from batchnorm.lab import above, overview, run, save
from batchnorm.lab._registry import every
from batchnorm.lab._runner import COMPANY, _code, grouped, written
from batchnorm.lab.data import load as load_dataset
from batchnorm.lab.summary import estimate
from tests.lab.made_up import MORTAL, PLAIN, TOGETHER, TRIALS


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The measurements that were made since the last look."""
    path = tmp_path / "ran"
    monkeypatch.setenv("TRIALS_RUN", str(path))

    def look() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return look


def smoke(experiment, folder, **options):
    return run(experiment, budget="smoke", out=folder, **{"jobs": 1} | options)[0]


def kept(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "trials").glob("*.json")}


def test_there_is_a_row_for_every_arm_setting_and_seed(tmp_path):
    study = smoke(PLAIN, tmp_path)

    keys = study.trials.select("arm", "seed", "lr").rows()
    assert len(keys) == len(set(keys)) == TRIALS
    assert study.trials.columns == ["arm", "dataset", "seed", "lr", "score", "seconds"]
    row = study.trials.filter(arm="treated", seed=2, lr=0.5)
    assert row["score"].to_list() == [12.5]


def test_trials_that_run_together_keep_their_own_numbers(tmp_path):
    alone, together = smoke(PLAIN, tmp_path), smoke(TOGETHER, tmp_path)

    assert together.trials.drop("seconds").equals(alone.trials.drop("seconds"))


def test_claims_follow_from_the_trials(tmp_path):
    claim = smoke(PLAIN, tmp_path).claims[0]

    assert claim.verdict == "holds"
    assert claim.findings["near"].effect.values == (10.0,) * 3
    assert claim.evidence.startswith("Near: 10 points more (95")


def test_where_datasets_disagree_each_says_its_own_verdict(tmp_path):
    grid = replace(PLAIN.budgets["smoke"], by_dataset={"near": {"lr": (9.0,)}})
    (question,) = PLAIN.questions

    def judge(frame):
        return above(estimate(frame["lr"].to_list()), 5.0, "{} points")

    experiment = replace(
        PLAIN, budgets={"smoke": grid}, questions=(replace(question, judge=judge),)
    )
    claim = smoke(experiment, tmp_path, data=tmp_path).claims[0]

    assert claim.verdict == "undecided"
    assert claim.evidence.startswith("Near (holds): 9 points (95")
    assert " Far (fails): 0.375 points (95" in claim.evidence


def test_data_that_lies_nowhere_is_left_out_and_said(tmp_path):
    without = smoke(PLAIN, tmp_path)
    whole = smoke(PLAIN, tmp_path, data=tmp_path)

    assert list(without.left_out) == ["far"]
    assert "a folder must be named" in without.left_out["far"]
    assert whole.left_out == {}
    assert whole.reused == TRIALS
    assert sorted(whole.claims[0].findings) == ["far", "near"]


def test_no_data_at_all_is_refused(tmp_path):
    far = replace(PLAIN, budgets={"smoke": replace(PLAIN.budgets["smoke"], datasets=("far",))})

    with pytest.raises(ValueError, match=r"one dataset must be there\. Got .*far"):
        smoke(far, tmp_path)


def test_data_that_is_there_but_wrong_is_refused(tmp_path):
    def load(name, folder):
        raise ValueError(f"{name}: cut short")

    with pytest.raises(ValueError, match="cut short"):
        smoke(replace(PLAIN, load=load), tmp_path, data=tmp_path)


def test_damaged_download_is_refused_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHNORM_CACHE", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "usps.npz").write_bytes(b"PK cut short")
    grid = replace(PLAIN.budgets["smoke"], datasets=("digits", "usps"))

    with pytest.raises(ValueError, match=r"usps\.npz': the file must be a whole \.npz archive"):
        smoke(replace(PLAIN, load=load_dataset, budgets={"smoke": grid}), tmp_path)


def test_data_that_changes_meanwhile_is_refused(tmp_path):
    parts = iter(("the first", "another"))

    def load(name, folder):
        return replace(load_dataset("digits", train=8), digest=next(parts))

    grid = replace(PLAIN.budgets["smoke"], datasets=("digits",))
    with pytest.raises(RuntimeError, match=r"data must stay as it is.* Got another 'digits'"):
        smoke(replace(PLAIN, load=load, budgets={"smoke": grid}), tmp_path)


@pytest.mark.parametrize("experiment", [PLAIN, TOGETHER], ids=lambda e: e.name)
def test_second_run_measures_nothing(experiment, tmp_path, ran):
    first = smoke(experiment, tmp_path)
    assert len(ran()) == TRIALS

    second = smoke(experiment, tmp_path)

    assert ran() == []
    assert (first.reused, second.reused) == (0, TRIALS)
    assert second.trials.equals(first.trials)


def test_more_seeds_add_only_theirs(tmp_path, ran):
    smoke(PLAIN, tmp_path)
    ran()

    study = smoke(PLAIN, tmp_path, seeds=4)

    assert {line.rpartition(" ")[2] for line in ran()} == {"3"}
    assert study.claims[0].findings["near"].effect.count == 4


def test_without_resume_everything_runs_again(tmp_path, ran):
    smoke(PLAIN, tmp_path)
    smoke(PLAIN, tmp_path, resume=False)

    assert len(ran()) == 2 * TRIALS


def test_interrupted_run_goes_on_where_it_was(tmp_path, ran):
    seen = []

    def stop(work):
        seen.append(work)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smoke(PLAIN, tmp_path, done=stop)
    assert len(ran()) == len(kept(tmp_path)) == 5
    progress = []

    study = smoke(PLAIN, tmp_path, started=lambda _, *work: progress.append(work))

    assert len(ran()) == TRIALS - 5
    assert progress == [(TRIALS, 5)]
    assert study.reused == 5


def test_killed_run_loses_nothing_that_was_finished(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from batchnorm.lab import run\n"
        "from tests.lab.made_up import PLAIN\n"
        "run(PLAIN, budget='smoke', out=Path(sys.argv[1]), jobs=1, done=lambda _: time.sleep(0.3))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while len(kept(tmp_path)) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = kept(tmp_path)
    assert 3 <= len(before) < TRIALS

    study = smoke(PLAIN, tmp_path)

    assert study.reused == len(before)
    assert len(study.trials) == TRIALS
    assert before.items() <= kept(tmp_path).items()


def test_dead_worker_is_said_and_the_rest_is_kept(tmp_path, monkeypatch, ran):
    with pytest.raises(RuntimeError, match=r"worker processes must live.*Run again to go on"):
        smoke(MORTAL, tmp_path, jobs=2)
    before = kept(tmp_path)
    ran()
    monkeypatch.setenv("SURVIVE", "1")

    study = smoke(MORTAL, tmp_path)

    assert study.reused == len(before)
    assert len(ran()) == TRIALS - len(before)
    assert len(study.trials) == TRIALS


def test_full_disk_leaves_no_half_trial(tmp_path, monkeypatch, ran):
    write, left = Path.write_text, iter([True] * 4)

    def full(path, text, **options):
        if not next(left, False):
            write(path, text[:10], **options)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            smoke(PLAIN, tmp_path)
    assert len(list((tmp_path / "trials").iterdir())) == 4
    ran()

    study = smoke(PLAIN, tmp_path)

    assert study.reused == 4
    assert len(ran()) == TRIALS - 4


@pytest.mark.parametrize("experiment", [PLAIN, TOGETHER], ids=lambda e: e.name)
def test_processes_give_the_numbers_of_one(experiment, tmp_path):
    one = smoke(experiment, tmp_path / "one")
    two = smoke(experiment, tmp_path / "two", jobs=2)

    assert two.trials.drop("seconds").equals(one.trials.drop("seconds"))


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra 'ray'")
@pytest.mark.filterwarnings("default")
def test_ray_gives_the_numbers_of_one_process(tmp_path, ran):
    one = smoke(PLAIN, tmp_path / "one")
    ray = smoke(PLAIN, tmp_path / "ray", backend="ray")

    assert ray.trials.drop("seconds").equals(one.trials.drop("seconds"))
    assert smoke(PLAIN, tmp_path / "ray", backend="ray").reused == TRIALS


def test_a_dataset_may_have_settings_of_its_own(tmp_path):
    grid = replace(PLAIN.budgets["smoke"], by_dataset={"near": {"lr": (9.0,)}})
    experiment = replace(PLAIN, budgets={"smoke": grid})

    (study,) = run(experiment, budget="smoke", data=tmp_path, out=tmp_path, jobs=1)

    assert set(study.trials.filter(dataset="near")["lr"]) == {9.0}
    assert set(study.trials.filter(dataset="far")["lr"]) == {0.25, 0.5}


@pytest.mark.skipif(find_spec("ray") is not None, reason="the message when it is missing")
def test_missing_ray_is_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"pip install 'batchnorm\[lab,ray\]'"):
        smoke(PLAIN, tmp_path, backend="ray")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("biass",), r"the experiment must be known\. Got 'biass'\. Use one of .*bias"),
        ((PLAIN, "huge"), r"the budget must be known\. Got 'huge'\. Use one of smoke, default"),
        ((PLAIN, "smoke", 0), r"seeds must be at least 1\. Got seeds=0"),
        ((PLAIN, "smoke", 1, -1), r"jobs must be at least 1\. Got jobs=-1"),
    ],
)
def test_what_cannot_run_is_refused(arguments, message, tmp_path):
    options = dict(zip(("experiments", "budget", "seeds", "jobs"), arguments, strict=False))

    with pytest.raises(ValueError, match=message):
        run(**options, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_function_must_measure():
    with pytest.raises(ValueError, match=r"one function must measure\. Got two"):
        replace(TOGETHER, measure=PLAIN.measure)
    with pytest.raises(ValueError, match=r"one function must measure\. Got none"):
        replace(PLAIN, measure=None)


def test_groups_hold_what_may_differ_and_nothing_else():
    trials = PLAIN.trials(PLAIN.budgets["default"], {"near": "n"})

    groups = grouped(trials, ("seed", "lr"), jobs=1)

    assert sorted(map(str, trials)) == sorted(str(trial) for group in groups for trial in group)
    assert all(len({trial.arm for trial in group}) == 1 for group in groups)
    assert max(map(len, groups)) == COMPANY
    alone = grouped(trials, ("lr",), jobs=1)
    assert all(len({(trial.arm, trial.seed) for trial in group}) == 1 for group in alone)
    assert [len(group) for group in alone] == [3] * 40
    both = grouped(trials, ("arm", "lr"), jobs=1)
    assert all(len({trial.seed for trial in group}) == 1 for group in both)
    assert {len({trial.arm for trial in group}) for group in both} == {2}


def test_every_process_has_a_group():
    trials = PLAIN.trials(PLAIN.budgets["smoke"], {"near": "n"})

    assert [len(group) for group in grouped(trials, ("seed", "lr"), jobs=4)] == [3] * 4


def test_another_measurement_is_another_trial(tmp_path, monkeypatch):
    before = _code(PLAIN)
    source = tmp_path / "experiment.py"
    source.write_text("changed")
    assert _code(PLAIN) == before

    monkeypatch.setattr(inspect, "getsourcefile", lambda _: str(source))

    assert _code(PLAIN) != before


def test_a_function_without_a_file_counts_by_its_code():
    def typed(text: str) -> object:
        names: dict[str, object] = {}
        exec(compile(f"def measure(trial, data): return {text}", "<stdin>", "exec"), names)
        return replace(PLAIN, measure=names["measure"])

    assert _code(typed("{'score': 1}")) == _code(typed("{'score': 1}"))
    assert _code(typed("{'score': 1}")) != _code(typed("{'score': 2}"))


def test_what_is_not_a_function_counts_by_what_it_holds(monkeypatch):
    class Weighted(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

    assert written(Weighted(1)) == written(Weighted(1)) != written(Weighted(2))
    assert Path(__file__).read_bytes() in written(Weighted(1))
    assert written(partial(run, jobs=1)) == written(partial(run, jobs=1))
    assert written(partial(run, jobs=1)) != written(partial(run, jobs=2))
    assert written(len) == b"<built-in function len> ''"
    monkeypatch.setattr(Weighted, "__module__", "__main__")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert b"Weighted" in written(Weighted)


def test_files_hold_the_frames_and_say_how_they_were_made(tmp_path):
    study = smoke(PLAIN, tmp_path)

    written = save([study], tmp_path)

    trials, verdicts, result = written
    assert pl.read_parquet(trials).equals(study.trials)
    assert pl.read_parquet(verdicts)["verdict"].to_list() == ["holds"]
    record = json.loads(result.read_text())
    assert record["environment"]["code"]
    assert record["claims"][0]["findings"]["near"]["size"] is None  # no spread: infinite
    assert len(record["trials"]) == TRIALS


def test_overview_lists_them():
    assert overview()["name"].to_list() == list(every())
