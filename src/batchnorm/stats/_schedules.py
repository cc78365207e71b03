"""Momentum by batch number, and the object that sets it in a model's layers."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._errors import explain
from ._estimators import Schedule

__all__ = ["MomentumSchedule", "cumulative_then", "half_life"]


def cumulative_then(momentum: float) -> Schedule:
    """The average of all batches at first, ``1/k``, then a moving average of this momentum.

    A start of no weight at all, as zero debias, but monotone; the change is at batch 1/momentum.

    Example:
        >>> schedule = cumulative_then(0.1)
        >>> [schedule(k) for k in (1, 2, 4, 10, 100)]
        [1.0, 0.5, 0.25, 0.1, 0.1]
    """
    _check("cumulative_then", momentum)
    return lambda batch: max(momentum, 1 / batch)


def half_life(batches: float) -> float:
    """The momentum with which a batch's weight halves every so many batches.

    Example:
        >>> round(half_life(6.58), 3)
        0.1
    """
    if not batches > 0:
        raise ValueError(
            explain("half_life", "batches must be positive", f"batches={batches}", "Use 10")
        )

    return float(1 - 0.5 ** (1 / batches))


class MomentumSchedule:
    """Sets the momentum of every batch norm of a model before each training step.

    Args:
        model: torch's layers and ours.
        schedule: momentum of the k-th batch, k = 1, 2, ...

    Raises:
        ValueError: the model has no batch norm with running statistics.

    Example:
        >>> layer = batchnorm.BatchNorm1d(1)
        >>> schedule = MomentumSchedule(layer, cumulative_then(0.01))
        >>> for x in (torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])):
        ...     schedule.step()
        ...     _ = layer(x)
        >>> layer.running_mean
        tensor([4.])
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self._layers = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats
        ]
        if not self._layers:
            raise ValueError(
                explain(
                    "MomentumSchedule",
                    "the model must have batch norm layers with running statistics",
                    f"{type(model).__name__} without any",
                    "Pass a model that has some",
                )
            )
        self.schedule = schedule
        self.batch = 0

    def step(self) -> None:
        """Before a training batch: set the momentum that it enters with."""
        momentum = self.schedule(self.batch + 1)
        _check("MomentumSchedule", momentum)
        self.batch += 1
        for layer in self._layers:
            layer.momentum = momentum

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return {"batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self.batch = int(state["batch"])


def _check(who: str, momentum: float) -> None:
    if not 0 <= momentum <= 1:
        raise ValueError(
            explain(who, "momentum must be from 0 to 1", f"momentum={momentum}", "Use 0.1")
        )
