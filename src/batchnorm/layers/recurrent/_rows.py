"""A batch of sequences as rows: one row per real position, step after step."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Rows of all sequences, longest first, as in a ``PackedSequence``.

    Args:
        data: ``(S, C)``: the rows of step 0, then those of step 1, …
        sizes: how many sequences have each step; never grows.
    """

    data: Tensor
    sizes: tuple[int, ...]

    @classmethod
    def of_padded(cls, input: Tensor) -> Self:
        """From ``(L, N, C)`` without padding."""
        steps, batch, channels = input.shape

        return cls(input.reshape(steps * batch, channels), (batch,) * steps)

    @classmethod
    def of_packed(cls, input: PackedSequence) -> Self:
        """From a packed sequence."""
        return cls(input.data, tuple(input.batch_sizes.tolist()))

    def with_data(self, data: Tensor) -> Self:
        """Other values at the same positions."""
        return type(self)(data, self.sizes)

    def steps(self) -> tuple[Tensor, ...]:
        """The rows of each step."""
        return torch.split(self.data, list(self.sizes))

    def backwards(self) -> Tensor:
        """For each row, the row that has its place when every sequence runs from its own end.

        Taking rows twice by it gives them back.
        """
        device = self.data.device
        sizes = torch.tensor(self.sizes, device=device)
        starts = sizes.cumsum(0) - sizes
        steps = torch.arange(len(self.sizes), device=device)
        step = steps.repeat_interleave(sizes, output_size=sum(self.sizes))
        sequence = torch.arange(len(step), device=device) - starts[step]
        lengths = (sizes > torch.arange(self.sizes[0], device=device).unsqueeze(1)).sum(1)

        return starts[lengths[sequence] - 1 - step] + sequence
