"""Running statistics of each time step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._errors import explain
from ...ops import Lane, commit
from .._memory import Proposal, _is_recomputation, _Memory

__all__: list[str] = []


def check_max_length(who: str, max_length: Any) -> None:
    """``max_length`` is a positive integer.

    Raises:
        TypeError: it is no integer.
        ValueError: it is not positive.
    """
    if not isinstance(max_length, int) or isinstance(max_length, bool):
        got = f"max_length={max_length!r}"
        raise TypeError(explain(who, "max_length must be an integer", got, "Pass a step count"))
    if max_length < 1:
        got = f"max_length={max_length}"
        raise ValueError(explain(who, "max_length must be positive", got, "Remember one step"))


class _StepMemory(_Memory):
    """Buffers ``(T, C)``: a proposal is ``(k, C)``, of k steps from ``first`` on."""

    max_length: int

    # Called with the layer, the step, its input (N, C) and mask before that step is normalised.
    _listener: Callable[[Any, int, Tensor, Tensor | None], None] | None = None

    def _remember_steps(self, max_length: int) -> None:
        """Give every buffer a row for each step."""
        self.max_length = max_length
        for name in ("running_mean", "running_var", "num_nonfinite"):
            buffer = self._buffers[name]
            if buffer is not None:
                self._buffers[name] = buffer.repeat(max_length, 1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked = self.num_batches_tracked.repeat(max_length)

    def _recall(self, first: int, length: int) -> tuple[Tensor, Tensor]:
        """Running mean and variance ``(length, C)`` of these steps.

        A step without memory takes the last one before it that has some.
        """
        mean, var, tracked = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None
        assert var is not None
        assert tracked is not None
        steps = torch.arange(self.max_length, device=mean.device)
        known = torch.where(tracked > 0, steps, 0).cummax(0).values
        asked = torch.arange(first, first + length, device=mean.device)
        at = known[asked.clamp(max=self.max_length - 1)]

        return mean[at], var[at]

    def _propose_steps(self, lane: Lane, first: int, proposal: Proposal) -> None:
        """Offer statistics of steps: mean and var ``(k, C)``, count ``(k,)``."""
        room = self.max_length - first
        if room <= 0 or not self._updates or _is_recomputation():
            return

        mean, var, count = (value[:room] for value in proposal)
        proposal = mean, var, count.unsqueeze(1)
        if self._pending is None:
            self._commit(lane, proposal, first)
        else:
            self._pending.append(self._padded(first, proposal))

    def _padded(self, first: int, proposal: Proposal) -> Proposal:
        """The same for all steps, so that proposals of different lengths merge."""
        after = self.max_length - first - len(proposal[0])
        mean, var, count = (
            torch.nn.functional.pad(value, (0, 0, first, after)) for value in proposal
        )
        return mean, var, count

    def _commit(self, lane: Lane, proposal: Proposal, first: int = 0) -> None:
        mean, var, count = proposal
        steps = slice(first, first + len(mean))
        buffers: Any = self._buffers
        running_mean, running_var, tracked, lost = (
            buffers[name][steps]
            for name in ("running_mean", "running_var", "num_batches_tracked", "num_nonfinite")
        )
        count = count.expand_as(mean).contiguous()
        finite = mean.isfinite() & var.isfinite()
        seen = ((count > 1) | ((count > 0) & ~finite)).any(1)

        # The operator has one counter for all: what a step has not seen it has missed.
        most = tracked.max()
        ahead = (most - tracked).unsqueeze(1)
        if buffers["_lost_parts"] is not None:
            ahead = ahead - buffers["_lost_parts"][steps]
        missed = (lost + ahead).flatten()
        flat = running_mean.view(-1), running_var.view(-1), most, missed
        commit(lane, flat, (mean.flatten(), var.flatten(), count.flatten()), self.momentum)

        lost.copy_(missed.view_as(lost) - ahead)
        tracked.add_(seen)
