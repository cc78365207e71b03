"""Learning from one's own predictions: entropy, one step on it, and the guard that resets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._errors import explain

__all__ = ["EntropyStep", "Optimizer", "ResetGuard", "ResetReason", "entropies"]

Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimizer for γ and β."""

ResetReason = Literal["not finite", "collapsed", "due"]


def entropies(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of every prediction, and of their mean, in nats.

    Args:
        logits: ``(N, classes, *)``; every position is a prediction.

    Returns:
        ``(predictions,)`` and ``()``.

    Example:
        >>> entropies(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
        (tensor([0.6931, 0.6931]), tensor(0.6931))
    """
    logs = logits.float().movedim(1, -1).flatten(0, -2).log_softmax(-1)
    each = -(logs.exp() * logs).nan_to_num(0.0).sum(-1)
    mean = logs.exp().mean(0)
    marginal = torch.special.entr(mean).sum()

    return each, marginal


@dataclass(frozen=True)
class ResetGuard:
    """When entropy minimisation goes back to the weights that it began with.

    Minimised for long, entropy is smallest when everything is one class. The guard compares the
    variety of the predictions, the entropy of their mean, with what it was after the start.

    Args:
        variety: reset when the moving average falls below this share of its first value; 0: never.
            A stream that shows one class for long also falls.
        window: batches that the averages are over.
        every: reset after so many batches in any case; 1: each batch adapts from the start.

    Raises:
        ValueError: a number out of range.

    A step whose loss or gradient is not finite is never taken, and resets.
    """

    variety: float = 0.5
    window: int = 10
    every: int | None = None

    def __post_init__(self) -> None:
        if not (
            0 <= self.variety < 1 and self.window > 0 and (self.every is None or self.every > 0)
        ):
            raise ValueError(
                explain(
                    "ResetGuard",
                    "variety must be in [0, 1), window and every positive",
                    f"variety={self.variety}, window={self.window}, every={self.every}",
                    "Use ResetGuard()",
                )
            )


class EntropyStep:
    """Steps on γ and β, and the way back.

    Args:
        parameters: γ and β.
        optimizer: makes the optimizer.
        guard: when to reset.
        reliable: leave out predictions with more entropy than this share of ln(classes); None: take
            all.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        optimizer: Optimizer,
        guard: ResetGuard,
        reliable: float | None,
    ) -> None:
        self.parameters, self.guard, self.reliable = parameters, guard, reliable
        self._make = optimizer
        self._source = [parameter.detach().clone() for parameter in parameters]
        self.resets: list[tuple[int, ResetReason]] = []
        self.batches = 0
        self._begin()

    def _begin(self) -> None:
        self.optimizer = self._make(self.parameters)
        self._since = 0
        self._variety = self._first = 0.0

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the first weights, with a new optimizer."""
        for parameter, value in zip(self.parameters, self._source, strict=True):
            parameter.copy_(value)
        self._begin()

    def take(self, logits: Tensor) -> float:
        """One step on these predictions, or a reset; their mean entropy in nats."""
        self.batches += 1
        self._since += 1
        each, marginal = entropies(logits)
        loss = self._loss(each, logits.shape[1])
        reason = self._judge(loss, marginal) or self._step(loss)
        if reason is None and self._since == self.guard.every:
            reason = "due"
        if reason is not None:
            self.resets.append((self.batches, reason))
            self.reset()

        return float(each.detach().mean())

    def _loss(self, each: Tensor, classes: int) -> Tensor:
        if self.reliable is None:
            return each.mean()

        sure = each.detach() < self.reliable * math.log(classes)

        return (each * sure).sum() / sure.sum().clamp(min=1)

    def _judge(self, loss: Tensor, marginal: Tensor) -> ResetReason | None:
        if not bool(loss.isfinite()):
            return "not finite"

        variety, window = float(marginal.detach()), self.guard.window
        if self._since <= window:
            self._first += (variety - self._first) / self._since
            self._variety = self._first
            return None
        self._variety += (variety - self._variety) / window

        return "collapsed" if self._variety < self.guard.variety * self._first else None

    def _step(self, loss: Tensor) -> ResetReason | None:
        grads = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        if not all(grad is None or bool(grad.isfinite().all()) for grad in grads):
            return "not finite"

        before: list[Any] = [parameter.grad for parameter in self.parameters]
        try:
            for parameter, grad in zip(self.parameters, grads, strict=True):
                parameter.grad = grad
            self.optimizer.step()
        finally:
            for parameter, grad in zip(self.parameters, before, strict=True):
                parameter.grad = grad

        return None
