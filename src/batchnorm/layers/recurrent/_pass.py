"""One pass over time: each step by statistics of its own, proposed together at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...ops import Lane, check_number, normalise_by, normalise_by_batch
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
        args = (input, *self._affine, residual, mask, *self._form)
        if self._by_memory:
            return self._normalise_by_memory(step, *args)
        if self._norm._is_single(self._lane, input, mask):
            return self._normalise_single(step, *args)

        output, proposal = normalise_by_batch(self._lane, *args)
        self._proposals.append(proposal)

        return output

    def over(
        self,
        inputs: Sequence[Tensor],
        residuals: Sequence[Tensor] | None = None,
        masks: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Normalise all steps, which are known beforehand."""
        return [
            self(
                step,
                input,
                None if residuals is None else residuals[step],
                None if masks is None else masks[step],
            )
            for step, input in enumerate(inputs)
        ]

    def finish(self) -> None:
        """Offer what was measured to memory."""
        norm = self._norm
        if not (norm.training and norm.track_running_stats and self._proposals):
            return

        mean, var, count = (torch.stack(values) for values in zip(*self._proposals, strict=True))
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
        zeros = input.new_zeros(norm.num_features, dtype=accumulation_dtype(input.dtype))
        self._proposals.append((zeros, zeros, zeros.new_zeros((), dtype=torch.int64)))
        if norm.on_single == "running" and self._remembers:
            return self._normalise_by_memory(step, input, *args)
        if norm.on_single == "skip":
            return normalise_by_batch(self._lane, input, *args)[0]

        masked = input.numel() != norm.num_features
        return refuse_single(type(norm).__name__, input, masked)
