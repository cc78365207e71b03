"""Run trials in several processes, each on one thread; keep every one that finishes."""

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Literal, TypeVar

import torch

from .._errors import explain
from .store import Record, TrialStore

__all__ = ["Backend", "cores", "run_groups"]

Backend = Literal["joblib", "ray"]
Config = TypeVar("Config", bound=Record)


def cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_groups(
    function: Callable[[Sequence[Config]], Sequence[Record]],
    groups: Sequence[Sequence[Config]],
    store: TrialStore,
    *,
    jobs: int,
    backend: Backend = "joblib",
    done: Callable[[Config], None] = lambda _: None,
) -> None:
    """Run `function` on every group and save each result as soon as it is there.

    Args:
        function: the trials of one group; importable by name, because other processes run it.
        groups: configurations, one per trial; run in this order.
        store: where results go.
        jobs: processes; with 1 the trials run in this one, unless Ray runs them.
        backend: who runs the processes.
        done: called here after each trial.

    A KeyboardInterrupt stops the workers and is raised again; finished trials stay in `store`.

    Raises:
        RuntimeError: a worker process died, or Ray is not installed.
    """
    if backend == "ray":
        finished = _by_ray(function, groups, store, jobs)
    elif jobs == 1 or len(groups) <= 1:
        finished = (_work(function, i, group, store) for i, group in enumerate(groups))
    else:
        finished = _by_joblib(function, groups, store, jobs)
    store.sweep()
    try:
        with closing(finished):
            for index in finished:
                for config in groups[index]:
                    done(config)
    finally:
        store.sweep()


def _by_joblib(
    function: Callable[[Any], Any], groups: Sequence[Any], store: TrialStore, jobs: int
) -> Generator[int, None, None]:
    import joblib

    tasks = [joblib.delayed(_apart)(function, i, group, store) for i, group in enumerate(groups)]
    # One task at a time: a worker that holds a batch of them would lose it when it is stopped.
    parallel = joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered")
    try:
        yield from parallel(tasks)
    except (KeyboardInterrupt, GeneratorExit):
        _stop_workers()
        raise
    except BrokenProcessPool as error:
        _stop_workers()
        rule, got = "worker processes must live to the end", "one that died"
        cure = "Run again to go on from the finished trials, with fewer jobs if memory ran out"
        raise RuntimeError(explain("lab", rule, got, cure)) from error


def _by_ray(
    function: Callable[[Any], Any], groups: Sequence[Any], store: TrialStore, jobs: int
) -> Generator[int, None, None]:
    """Results come here to be saved: other machines need not see the folder."""
    from ._ray import results

    for index, found in results(partial(_on_one_thread, function), groups, jobs):
        _save(store, groups[index], found)
        yield index


def _apart(function: Callable[[Any], Any], index: int, group: Any, store: TrialStore) -> int:
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _work(function, index, group, store)


def _work(function: Callable[[Any], Any], index: int, group: Any, store: TrialStore) -> int:
    _save(store, group, _on_one_thread(function, group))
    return index


def _on_one_thread(function: Callable[[Any], Any], group: Any) -> Any:
    with _one_thread():
        return function(group)


def _save(store: TrialStore, group: Sequence[Any], found: Sequence[Any]) -> None:
    for config, result in zip(group, found, strict=True):
        store.save(config, result)


def _stop_workers() -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(kill_workers=True).shutdown(wait=True, kill_workers=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads do not help such small networks, and the bits depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
