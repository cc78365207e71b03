"""What a layer remembers of its batches: running statistics, counters, and what may enter them."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm

from .._types import BatchStats
from ..ops import Lane, commit

__all__: list[str] = []

_current_graph_task_id = torch._C._current_graph_task_id

# mean, var (biased), count
Proposal = tuple[Tensor, Tensor, Tensor]


class _Memory(_TorchBatchNorm):
    """Torch's buffers and one more; they stay wide, and batches enter them as proposals."""

    num_nonfinite: Tensor | None
    # Micro-batches that accumulate() lost while the others of their update were committed.
    _lost_parts: Tensor | None

    # Where proposals go: dropped when _updates is False, else to the list _pending, else to memory.
    _updates: bool = True
    _pending: list[Proposal] | None = None

    def _init_memory(self, device: Any) -> None:
        self.register_buffer("num_nonfinite", None, persistent=False)
        self.register_buffer("_lost_parts", None, persistent=False)
        if self.track_running_stats:
            self.num_nonfinite = torch.zeros(self.num_features, dtype=torch.int64, device=device)
            self._restore_dtypes({})

    def _propose(self, lane: Lane, proposal: Proposal, empty: bool) -> None:
        """Offer a batch's statistics; most often they are committed at once."""
        if not self._updates or _is_recomputation():
            return

        if self._pending is not None:
            self._pending.append(proposal)
            return

        self._commit(lane, proposal)
        if empty and self.num_batches_tracked is not None:  # as torch counts it
            self.num_batches_tracked.add_(1)

    def _statistics(self, mean: Tensor, var: Tensor, count: Tensor) -> BatchStats:
        """A proposal as something that merges; a variant that proposes more changes this."""
        return BatchStats(count, mean, var)

    def _commit(self, lane: Lane, proposal: Proposal) -> None:
        tensors: Any = self._buffers
        tracked, lost, parts = (
            tensors["num_batches_tracked"],
            tensors["num_nonfinite"],
            tensors["_lost_parts"],
        )
        if tracked is None:
            tracked = torch.zeros_like(proposal[2])
        missed = lost if parts is None else lost - parts

        buffers = (tensors["running_mean"], tensors["running_var"], tracked, missed)
        commit(lane, buffers, proposal, self.momentum)
        if parts is not None:
            lost.copy_(missed + parts)

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        super().reset_running_stats()
        lost = self._buffers.get("num_nonfinite")
        if lost is not None:
            lost.zero_()
            self._lost_parts = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast; running statistics are not narrowed, counters stay integers."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._restore_dtypes(before)

        return self

    def _restore_dtypes(self, before: dict[str, Tensor | None]) -> None:
        """Buffers that a cast has narrowed get the values that they had before, where they are."""
        for name, after in self._buffers.items():
            if after is None:
                continue
            dtype = _restored_dtype(name, after.dtype)
            if dtype != after.dtype:
                exact = before.get(name)
                source = after if exact is None or exact.is_meta else exact
                self._buffers[name] = source.to(device=after.device, dtype=dtype)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """As torch's; other statistics have lost no batches yet."""
        super()._load_from_state_dict(*args, **kwargs)
        self._restore_dtypes({})
        mean, lost = self._buffers.get("running_mean"), self._buffers.get("num_nonfinite")
        if mean is not None and lost is not None:
            self._buffers["num_nonfinite"] = torch.zeros_like(lost, device=mean.device)
            self._lost_parts = None


def _restored_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """What a buffer is kept in after a cast to ``dtype``."""
    if name.startswith("running_"):
        narrow = dtype.itemsize < torch.float32.itemsize
        return torch.float32 if narrow else dtype

    return torch.int64 if name.startswith("num_") or name == "_lost_parts" else dtype


def _is_recomputation() -> bool:
    """Whether a backward is running: then activation checkpointing repeats a forward.

    A compiled forward cannot ask; there ``batch_norm_commit_`` itself does, when it runs.
    """
    return not torch.compiler.is_compiling() and _current_graph_task_id() != -1
