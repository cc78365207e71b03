"""Run experiments: the trials that are missing, then the verdicts of all."""

import hashlib
import inspect
import marshal
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .._errors import explain
from ._experiment import Budget, Data, Experiment
from ._registry import find
from ._study import Study, frame_of, judged
from ._trial import Measure, MeasureTogether, Outcome, Trial
from .data import CATALOGUE, Dataset, is_there
from .environment import environment
from .parallel import Backend, cores, run_groups
from .store import TrialStore, code_version

__all__ = ["grouped", "key_of", "run", "study", "written"]

COMPANY = 32  # networks that train together: more are hardly faster

Load = Callable[[str, Path | None], Any]


def run(
    experiments: str | Experiment | Iterable[str | Experiment],
    *,
    budget: Budget = "default",
    data: Path | None = None,
    seeds: int | None = None,
    out: Path = Path("out/lab"),
    jobs: int | None = None,
    backend: Backend = "joblib",
    resume: bool = True,
    started: Callable[[Experiment, float, float], None] = lambda *_: None,
    done: Callable[[float], None] = lambda _: None,
) -> list[Study]:
    """Run experiments, one after another, each trial once.

    Args:
        experiments: names, or experiments of your own.
        budget: ``"smoke"``, ``"default"`` or ``"full"``.
        data: folder with datasets; those that are not there are left out.
        seeds: how many, instead of the budget's.
        out: finished trials are kept in its folder ``trials``; the same call goes on from there.
        jobs: processes; all cores by default.
        backend: ``"joblib"`` for processes of this machine, ``"ray"`` for a Ray cluster.
        resume: False runs every trial again.
        started: called for each experiment with its work and how much of that is done.
        done: called after each trial with its work.

    Raises:
        ValueError: an unknown experiment or budget, no seeds, jobs or data at all, or a file that
            is not right.
        RuntimeError: a worker process died, or data changed meanwhile.
    """
    if seeds is not None and seeds < 1:
        rule, cure = "seeds must be at least 1", "Use seeds ≥ 1, or leave it out"
        raise ValueError(explain("lab", rule, f"seeds={seeds}", cure))
    if jobs is not None and jobs < 1:
        rule, cure = "jobs must be at least 1", "Use jobs ≥ 1, or leave it out"
        raise ValueError(explain("lab", rule, f"jobs={jobs}", cure))
    if isinstance(experiments, str | Experiment):
        experiments = [experiments]
    chosen = [find(item) if isinstance(item, str) else item for item in experiments]
    for experiment in chosen:
        experiment.grid(budget)

    return [
        study(
            experiment,
            budget=budget,
            folder=data,
            seeds=seeds,
            store=TrialStore(out / "trials", _code(experiment)),
            jobs=jobs or cores(),
            backend=backend,
            resume=resume,
            started=started,
            done=done,
        )
        for experiment in chosen
    ]


def study(
    experiment: Experiment,
    *,
    budget: Budget,
    folder: Path | None,
    seeds: int | None,
    store: TrialStore,
    jobs: int,
    backend: Backend,
    resume: bool,
    started: Callable[[Experiment, float, float], None],
    done: Callable[[float], None],
) -> Study:
    """Run one experiment; see :func:`run`."""
    clock = time.perf_counter()
    grid = experiment.grid(budget)
    grid = grid if seeds is None else replace(grid, seeds=seeds)
    data, left_out = _data(experiment, grid.datasets, folder)
    trials = experiment.trials(grid, {name: found.digest for name, found in data.items()})
    missing = [trial for trial in trials if not (resume and store.load(trial))]
    # The longest first, so that no process waits for the last one.
    missing.sort(key=_work, reverse=True)
    total = sum(map(_work, trials))
    started(experiment, total, total - sum(map(_work, missing)))

    run_groups(
        partial(
            _measured, experiment.measure, experiment.measure_together, experiment.load, folder
        ),
        grouped(missing, experiment.together, jobs),
        store,
        jobs=jobs,
        backend=backend,
        done=lambda trial: done(_work(trial)),
    )

    frame = frame_of((trial, _stored(store, trial)) for trial in trials)
    titles = {name: found.title for name, found in data.items()}
    return Study(
        experiment=experiment,
        budget=budget,
        grid=grid,
        trials=frame,
        claims=tuple(judged(question, frame, titles) for question in experiment.questions),
        datasets=titles,
        left_out=left_out,
        environment=environment(),
        reused=len(trials) - len(missing),
        seconds=time.perf_counter() - clock,
    )


def grouped(
    trials: Sequence[Trial], together: Collection[str], jobs: int
) -> Sequence[Sequence[Trial]]:
    """Trials that run together; without `together` each by itself.

    Args:
        trials: in the order in which they should run.
        together: what those of one group may differ in.
        jobs: processes that should all have something to do.
    """
    if not together:
        return [[trial] for trial in trials]
    alike: dict[object, list[Trial]] = {}
    for trial in trials:
        settings = [(k, v) for k, v in trial.settings.items() if k not in together]
        seed = None if "seed" in together else trial.seed
        arm = None if "arm" in together else trial.arm
        alike.setdefault((arm, trial.dataset, seed, *settings), []).append(trial)
    size = min(COMPANY, math.ceil(len(trials) / jobs))

    return [
        group[start : start + size]
        for group in alike.values()
        for start in range(0, len(group), size)
    ]


def _measured(
    measure: Measure | None,
    measure_together: MeasureTogether | None,
    load: Load,
    folder: Path | None,
    trials: Sequence[Trial],
) -> list[Outcome]:
    """Run the trials of one group; torch's global generator is their own meanwhile."""
    name = trials[0].dataset
    data = load(name, folder)
    if isinstance(data, Dataset) and data.digest != trials[0].digest:
        rule, got = "data must stay as it is while it is used", f"another '{name}' than before"
        raise RuntimeError(explain("lab", rule, got, "Run again, in a new process"))
    started = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trials[0].seed)
        if measure_together is not None:
            found = measure_together(trials, data)
        else:
            assert measure is not None
            found = [measure(trial, data) for trial in trials]
    share = (time.process_time() - started) / len(trials)

    return [Outcome(dict(measured), share) for measured in found]


def _data(
    experiment: Experiment, names: Iterable[str], folder: Path | None
) -> tuple[dict[str, Data], dict[str, str]]:
    """What there is, and why the rest is left out; a file that is there must be right."""
    found: dict[str, Data] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            found[name] = experiment.load(name, folder)
        except (ValueError, OSError) as error:
            there = folder is not None or (name in CATALOGUE and is_there(name))
            if there and not isinstance(error, FileNotFoundError):
                raise
            left_out[name] = str(error)
    if not found:
        rule = "one dataset must be there"
        cure = "Name the folder with datasets by data= or --data"
        raise ValueError(explain(f"experiment '{experiment.name}'", rule, f"{left_out}", cure))

    return found, left_out


def _work(trial: Trial) -> float:
    steps = trial.settings.get("steps")
    return float(steps) if isinstance(steps, int | float) else 1.0


def _code(experiment: Experiment) -> str:
    function = experiment.measure or experiment.measure_together
    assert function is not None

    return key_of(function)


def key_of(function: Callable[..., Any]) -> str:
    """Digest of the package's code and of what is written where `function` is."""
    return hashlib.sha256(code_version().encode() + written(function)).hexdigest()[:16]


def written(function: Callable[..., Any]) -> bytes:
    """The file of a function or class; what has none counts by its code, or by what it holds."""
    function = inspect.unwrap(function)
    if isinstance(function, partial):
        return written(function.func) + repr((function.args, function.keywords)).encode()
    try:
        source = inspect.getsourcefile(function)
    except (TypeError, OSError):  # an object that can be called, a builtin, a class of a notebook
        held = f"{function!r} {getattr(function, '__dict__', '')!r}".encode()
        kind = type(function)
        return held if kind.__module__ == "builtins" else held + written(kind)
    if source is not None and Path(source).is_file():
        return Path(source).read_bytes()
    code = getattr(function, "__code__", None)

    return marshal.dumps(code) if code else repr(function).encode()


def _stored(store: TrialStore, trial: Trial) -> Outcome:
    stored = store.load(trial)
    if stored is None:
        rule = "every finished trial must be readable"
        cure = "Run again; if it stays, use another folder"
        got = f"none at '{store.path(trial)}' ({trial})"
        raise RuntimeError(explain("lab", rule, got, cure))

    return Outcome(**stored)
