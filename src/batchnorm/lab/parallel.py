"""Run trials in several processes, each on one thread; keep every one that finishes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch

from .store import Record, TrialStore

__all__ = ["Backend", "cores", "run_all"]

Backend = Literal["joblib", "ray"]
Config = TypeVar("Config", bound=Record)


def cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_all(
    function: Callable[[Config], Record],
    configs: Sequence[Config],
    store: TrialStore,
    *,
    jobs: int,
    backend: Backend = "joblib",
    done: Callable[[Config], None] = lambda _: None,
) -> None:
    """Run `function` on every configuration and save each result as soon as it is there.

    Args:
        function: one trial; importable by name, because other processes run it.
        configs: one per trial, run in this order.
        store: where results go.
        jobs: processes; with 1 the trials run in this one.
        backend: who runs the processes.
        done: called here after each trial.

    A KeyboardInterrupt stops the workers and is raised again; finished trials stay in `store`.
    """
    if jobs == 1 or len(configs) <= 1:
        with _one_thread():
            for config in configs:
                store.save(config, function(config))
                done(config)
        return

    import joblib

    tasks = [joblib.delayed(_work)(function, i, config, store) for i, config in enumerate(configs)]
    # One task at a time: a worker that holds a batch of them would lose it when it is stopped.
    parallel = joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered")
    try:
        for index in parallel(tasks):
            done(configs[index])
    except KeyboardInterrupt:
        _stop_workers()
        raise


def _work(function: Callable[[Any], Any], index: int, config: Any, store: TrialStore) -> int:
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _one_thread():
        store.save(config, function(config))
    return index


def _stop_workers() -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads do not help such small networks, and the bits depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
