"""Run a worker in a process of its own, where allocator settings and peak memory are its own."""

import json
import os
import subprocess
import sys

from benchmarks.machine import ROOT

__all__ = ["main", "run_worker"]

_MARK = "RESULT "


def run_worker(
    module: str,
    task: dict[str, object],
    *,
    environment: dict[str, str] | None = None,
    timeout: float = 300.0,
) -> dict[str, object]:
    """``python -m module '<task>'``; what it found. RuntimeError with its last words otherwise."""
    command = [sys.executable, "-m", module, json.dumps(task)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True,
        text=True, timeout=timeout, check=False,
    )  # fmt: skip
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK):
            return json.loads(line[len(_MARK) :])
    last_words = done.stderr.strip()[-1500:]
    raise RuntimeError(
        f"{module}: the worker must end well. Got exit {done.returncode}. {last_words}"
    )


def main(work) -> None:
    """Entry point of a worker: do the task in ``argv`` and print the result for the parent."""
    try:
        print(_MARK + json.dumps(work(json.loads(sys.argv[1]))), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
