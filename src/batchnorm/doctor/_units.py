"""Units of an activation that were never seen to do their work."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Units"]


@dataclass
class Units:
    """Which units were alive in any example.

    No exception among n examples bounds its probability by 3/n (95 %, the rule of three), so fewer
    than 30 examples say nothing.
    """

    alive: Tensor | None = None
    examples: int = 0

    def see(self, alive: Tensor) -> None:
        """Take a call: bool ``(N, C, *)`` or ``(N, C)``, whether each value is alive."""
        if alive.dim() < 2:
            return
        seen = alive.flatten(2).any(2).any(0) if alive.dim() > 2 else alive.any(0)
        if self.alive is not None and len(self.alive) != len(seen):
            seen = torch.ones_like(self.alive)  # another kind of input: nothing can be said
        self.alive = seen if self.alive is None else self.alive | seen
        self.examples += len(alive)

    @property
    def dead(self) -> int:
        """Units that never were; 0 if too little was seen."""
        if self.alive is None or self.examples < 30:
            return 0

        return int((~self.alive).sum())

    @property
    def total(self) -> int:
        """Units there are."""
        return 0 if self.alive is None else len(self.alive)
