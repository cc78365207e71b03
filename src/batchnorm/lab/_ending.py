"""What a trial of most experiments reports of a trained network, and when it has trained."""

from collections.abc import Sequence

import polars as pl
from torch import nn

from ._fit import accuracy, final
from ._together import fit_together
from ._trial import Trial
from .data import Dataset
from .models import Mlp

__all__ = ["MEASURED", "TRAINS", "ending", "train"]

MEASURED = {
    "accuracy": "test accuracy at the end",
    "loss": "training loss over the last tenth of the steps, relative to a constant guess; inf "
    "for a run that diverged",
}
"""The numbers of :func:`ending` in words."""

TRAINS = pl.col("loss") < 0.5
"""Of a row with the numbers of :func:`ending`: less than half the loss of a constant guess."""


def ending(net: nn.Module, data: Dataset, losses: Sequence[float], steps: int) -> dict[str, float]:
    """How a network ends.

    Args:
        net: trained.
        data: what it was trained on.
        losses: of its steps.
        steps: that were to be made.
    """
    return {"accuracy": accuracy(net, data), "loss": final(losses, steps) / data.constant_loss}


def train(
    trials: Sequence[Trial], nets: Sequence[Mlp], data: Dataset, *, batch_size: int = 60
) -> list[dict[str, float]]:
    """Train the networks of trials that differ in nothing but seed and ``lr``.

    Args:
        trials: with the settings ``lr`` and ``steps``.
        nets: one each.
        data: what to learn.
        batch_size: examples in a minibatch.

    Returns:
        How each ends.
    """
    steps: int = trials[0]["steps"]
    rates, seeds = [trial["lr"] for trial in trials], [trial.seed for trial in trials]
    losses = fit_together(nets, data, lrs=rates, seeds=seeds, steps=steps, batch_size=batch_size)

    return [ending(net, data, lost, steps) for net, lost in zip(nets, losses, strict=True)]
