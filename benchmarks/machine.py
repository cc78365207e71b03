"""What the numbers were measured on: the header of every results file."""

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

import batchnorm
from benchmarks.pressure import pressure_reader

__all__ = ["COMPARABLE", "ROOT", "header"]

ROOT = Path(__file__).resolve().parents[1]

# Uncommitted changes here make a commit's numbers not that commit's.
_MEASURED = ("src", "csrc", "benchmarks/*.py")

# Rows measured under other values of these are not comparable and are not resumed.
COMPARABLE = ("cpu", "cores", "isa", "torch", "batchnorm", "commit", "threads", "quick", "compile")


def header(*, threads: int, quick: bool = False, compiled: bool = True) -> dict[str, object]:
    """Machine, versions, commit and options."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": _cores(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "batchnorm": batchnorm.__version__,
        "kernels": _kernels(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip(),
        "transparent_hugepages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "pressure_filter": pressure_reader()() is not None,
        "threads": threads,
        "quick": quick,
        "compile": compiled,
    }


def _kernels() -> str:
    """What serves the CPU: the instruction set of our native library, or that there is none."""
    return batchnorm.info().instruction_set or "pure torch (no native library)"


def _cores() -> int | None:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    changed = _git("diff", "HEAD", "--", *_MEASURED)
    if not changed:
        return commit
    return f"{commit}+changes.{hashlib.sha256(changed.encode()).hexdigest()[:8]}"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    for key, value in header(threads=torch.get_num_threads()).items():
        print(f"{key:24}{value}")
