"""Where and with what a result was made."""

import os
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

import batchnorm

from .parallel import cores
from .store import code_version

__all__ = ["Environment", "environment"]

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "joblib",
    "polars",
    "altair",
    "vl-convert-python",
)


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a run.

    Args:
        date: UTC, ISO 8601, to the minute.
        machine: processor, cores, system.
        python: version of the interpreter.
        packages: name to version.
        code: digest of our code (:func:`batchnorm.lab.store.code_version`).
        path: what :func:`batchnorm.info` says about the path that served the layer.
    """

    date: str
    machine: str
    python: str
    packages: dict[str, str]
    code: str
    path: str


def environment() -> Environment:
    """Describe this machine and process."""
    return Environment(
        date=_now().strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{_processor()}, {cores()} cores, {platform.system()} {platform.machine()}, "
        f"torch uses {torch.backends.cpu.get_cpu_capability()}",
        python=platform.python_version(),
        packages={"batchnorm": batchnorm.__version__} | {p: metadata.version(p) for p in PACKAGES},
        code=code_version(),
        path=str(batchnorm.info()),
    )


def _now() -> datetime:
    """The current time, or the one that ``SOURCE_DATE_EPOCH`` fixes for repeatable builds."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(fixed), UTC) if fixed else datetime.now(UTC)


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
