"""Time on the device: events around the work, a flush of the caches before it."""

import statistics
import time
from collections.abc import Callable

import torch

__all__ = ["Clock"]

_FLUSH = 256 * 2**20  # bytes; more than any cache


class Clock:
    """Times functions on one device; on the CPU by the ordinary clock, for rehearsals."""

    def __init__(self, device: torch.device):
        self.device = device
        self.on_gpu = device.type == "cuda"
        self._waste = torch.empty(_FLUSH if self.on_gpu else 1, dtype=torch.uint8, device=device)

    def once(self, prepare: Callable[[], object], work: Callable[[object], object]) -> float:
        """Milliseconds of ``work(prepare())``, without ``prepare``.

        The flush also keeps the device busy while the host queues the work, so that what is timed
        is the device and not Python.
        """
        prepared = prepare()
        self._waste.zero_()
        if not self.on_gpu:
            start = time.perf_counter()
            work(prepared)
            return 1e3 * (time.perf_counter() - start)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work(prepared)
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def compare(
        self,
        sides: dict[str, tuple[Callable[[], object], Callable[[object], object]]],
        rounds: int = 15,
        warm_up: int = 3,
    ) -> dict[str, list[float]]:
        """Quartiles in ms of each side ``(prepare, work)``, in alternating rounds."""
        times: dict[str, list[float]] = {name: [] for name in sides}
        for i in range(warm_up + rounds):
            for name, side in sides.items():
                ms = self.once(*side)
                if i >= warm_up:
                    times[name].append(ms)
        return {name: statistics.quantiles(values, n=4) for name, values in times.items()}

    def peak(self, work: Callable[[], object]) -> float | None:
        """MiB that ``work`` allocates at most beside what was there; None on the CPU."""
        if not self.on_gpu:
            work()
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
