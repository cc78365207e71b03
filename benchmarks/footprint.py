"""Resident memory of this process and its peak, from Linux's /proc; None elsewhere."""

import resource
from collections.abc import Callable
from pathlib import Path

__all__ = ["minor_faults", "peak_growth", "resident"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def _field(name: str) -> float | None:
    """A field of /proc/self/status in MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(values[0]) / 1024 if values else None


def resident() -> float | None:
    """Resident memory now, MiB."""
    return _field("VmRSS")


def peak_growth(work: Callable[[], object]) -> float | None:
    """MiB by which resident memory during ``work`` exceeded resident memory before it."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return None
    before = resident()
    work()
    peak = _field("VmHWM")
    return None if before is None or peak is None else peak - before


def minor_faults(work: Callable[[], object]) -> int:
    """Pages that were touched for the first time during ``work``."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
