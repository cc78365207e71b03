"""Memory of a piece of work: resident, from Linux's /proc (None elsewhere), and in tensors."""

import resource
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from torch.autograd import _disable_profiler_legacy, _enable_profiler_legacy, profiler_legacy

__all__ = ["minor_faults", "peak_growth", "peak_tensors", "resident"]

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


def peak_tensors(work: Callable[[], object]) -> float:
    """MiB of tensors that torch's allocator had given out in ``work`` at the worst moment.

    Exact, whatever the allocator keeps; scratch that kernels take elsewhere is not in it.
    """
    # By torch.profiler the same numbers come with lines on stderr.
    wanted = profiler_legacy.profile(profile_memory=True).config()
    _enable_profiler_legacy(wanted)
    try:
        work()
    finally:
        records = _disable_profiler_legacy()
    now = peak = 0
    for event in chain.from_iterable(records):
        if event.kind() == "memory_alloc":
            now += event.cpu_memory_usage()
            peak = max(peak, now)
    return peak / 2**20
