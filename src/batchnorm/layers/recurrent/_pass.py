"""One pass over time: each step by statistics of its own, proposed together at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...ops import (
    Lane,
    check_number,
    normalise_by,
    normalise_by_batch,
    normalise_groups,
    normalise_groups_by,
)
from ...reference import accumulation_dtype
from .._batchnorm import _CODES
from .._memory import Proposal
from .._policy import refuse_single

if TYPE_CHECKING:
    from ._norm import RecurrentBatchNorm

__all__ = ["Pass"]


class Pass:
    """The steps ``first``, ``first + 1``, … of one forward of a layer.

    Args:
        norm: the layer.
        lane: the way of this forward.
        first: number of the first step.
        length: how many steps there are.
        bias: in place of the layer's own.
    """

    def __init__(
        self,
        norm: RecurrentBatchNorm,
        lane: Lane,
        first: int,
        length: int,
        bias: Tensor | None = None,
    ) -> None:
        weight, own_bias, mean, _ = norm._tensors()
        self._norm, self._lane, self._first, self._length = norm, lane, first, length
        self._affine = weight, own_bias if bias is None else bias
        self._form = norm.eps, _CODES[norm.activation], norm.slope
        self._remembers = mean is not None
        self._recalled: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
        # mean and var (k, C), count (k,): of the next k steps.
        self._proposals: list[Proposal] = []
        if not self._by_memory and not norm.eps > 0:
            check_number(type(norm).__name__, "eps", norm.eps, zero=False)

    @property
    def _by_memory(self) -> bool:
        return self._remembers and not self._norm.training

    def __call__(
        self, step: int, input: Tensor, residual: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Normalise ``input (N, C)``; steps are counted from this pass's first, in their order."""
        self._show(step, [input], [mask])
        args = (input, *self._affine, residual, mask, *self._form)
        if self._by_memory:
            return self._normalise_by_memory(step, *args)
        if self._norm._is_single(self._lane, input, mask):
            return self._normalise_single(step, *args)

        output, (mean, var, count) = normalise_by_batch(self._lane, *args)
        self._proposals.append((mean.unsqueeze(0), var.unsqueeze(0), count.unsqueeze(0)))

        return output

    def over(
        self,
        rows: Tensor,
        sizes: Sequence[int],
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> list[Tensor]:
        """Normalise all steps, known beforehand: ``rows (S, C)``, ``sizes[t]`` of them for step t.

        Args:
            rows: step after step.
            sizes: never grow, as in a ``PackedSequence``.
            residual: ``(S, C)``.
            mask: bool ``(S,)``.
        """
        # In training a step with a single value goes its own way; of a mask only a look can tell.
        alone = 0 if self._by_memory else len(sizes) if mask is not None else _small(sizes)
        together = len(sizes) - alone
        if together == 1:
            together = 0
        outputs: list[Tensor] = []
        if together:
            head = sum(sizes[:together])
            parts = (None if t is None else t[:head] for t in (rows, residual, mask))
            outputs += self._together(sizes[:together], *parts).split(list(sizes[:together]))

        residuals = None if residual is None else residual.split(list(sizes))
        masks = None if mask is None else mask.split(list(sizes))
        for step, input in enumerate(rows.split(list(sizes))):
            if step >= together:
                extras = (None if every is None else every[step] for every in (residuals, masks))
                outputs.append(self(step, input, *extras))

        return outputs

    def _together(
        self, sizes: Sequence[int], rows: Any, residual: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """The first steps in one call."""
        parts = list(sizes)
        self._show(
            0, rows.split(parts), (None,) * len(parts) if mask is None else mask.split(parts)
        )
        steps = torch.arange(len(sizes), device=rows.device)
        index = steps.repeat_interleave(
            torch.tensor(sizes, device=rows.device), output_size=len(rows)
        )
        args = (rows, *self._affine, residual, mask)
        if self._by_memory:
            mean, var = self._norm._recall(self._first, len(sizes))
            return normalise_groups_by(self._lane, mean, var, *args, index, None, *self._form)

        output, proposal = normalise_groups(self._lane, *args, index, len(sizes), None, *self._form)
        self._proposals.append(proposal)

        return output

    def _show(self, step: int, inputs: Sequence[Tensor], masks: Sequence[Tensor | None]) -> None:
        """Tell who listens what the steps from ``step`` on are given; they may change memory."""
        listener = self._norm._listener
        if listener is None:
            return

        for at, (input, mask) in enumerate(zip(inputs, masks, strict=True), self._first + step):
            listener(self._norm, at, input, mask)
        self._recalled = None

    def finish(self) -> None:
        """Offer what was measured to memory."""
        norm = self._norm
        if not (norm.training and norm.track_running_stats and self._proposals):
            return

        mean, var, count = (torch.cat(values) for values in zip(*self._proposals, strict=True))
        norm._propose_steps(self._lane, self._first, (mean, var, count))

    def _normalise_by_memory(self, step: int, *args: Any) -> Tensor:
        if self._recalled is None:
            mean, var = self._norm._recall(self._first, self._length)
            self._recalled = mean.unbind(0), var.unbind(0)
        means, variances = self._recalled

        return normalise_by(self._lane, means[step], variances[step], *args)

    def _normalise_single(self, step: int, input: Tensor, *args: Any) -> Tensor:
        """Follow ``on_single``; the step proposes nothing."""
        norm = self._norm
        zeros = input.new_zeros(1, norm.num_features, dtype=accumulation_dtype(input.dtype))
        self._proposals.append((zeros, zeros, zeros.new_zeros(1, dtype=torch.int64)))
        if norm.on_single == "running" and self._remembers:
            return self._normalise_by_memory(step, input, *args)
        if norm.on_single == "skip":
            return normalise_by_batch(self._lane, input, *args)[0]

        masked = input.numel() != norm.num_features
        return refuse_single(type(norm).__name__, input, masked)


def _small(sizes: Sequence[int]) -> int:
    """How many steps, the last ones, have fewer than two rows."""
    return sum(size < 2 for size in sizes)
