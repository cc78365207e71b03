"""Training a classifier, the same bits whenever it runs again on the same machine."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .data import Dataset

__all__ = ["Augment", "Loss", "Schedule", "accuracy", "final", "fit", "minibatches", "predictions"]

Augment = Callable[[Tensor, torch.Generator], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Schedule = Callable[[float], float]


def minibatches(examples: int, size: int, seed: int) -> Iterator[Tensor]:
    """Indices ``(size,)`` of one minibatch after another, without end.

    Each epoch visits the examples in a new order; an incomplete last batch is dropped.

    Raises:
        ValueError: the data has no whole minibatch.
    """
    if not 1 <= size <= examples:
        raise ValueError(
            f"minibatches: size must be 1 to the number of examples. Got size={size}, "
            f"examples={examples}. Use size ≤ {examples}."
        )
    order = torch.Generator().manual_seed(seed)
    while True:
        shuffled = torch.randperm(examples, generator=order)
        yield from shuffled[: examples // size * size].split(size)


def fit(
    net: nn.Module,
    data: Dataset,
    *,
    lr: float,
    steps: int,
    seed: int,
    batch_size: int = 60,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    schedule: Schedule | None = None,
    augment: Augment | None = None,
    loss: Loss = functional.cross_entropy,
    after: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Train by SGD.

    A run whose loss is not finite stops there.

    Args:
        net: outputs for inputs; in training mode, here and after. Where `data` has lengths they
            are its second argument.
        data: what to learn.
        lr: learning rate.
        steps: minibatches.
        seed: of their order, and of `augment`.
        batch_size: examples in each.
        momentum: of SGD.
        weight_decay: of SGD.
        schedule: what `lr` is multiplied by, from the share of the steps that are done.
        augment: changes the inputs of a minibatch, with the generator that it is given.
        loss: of outputs and targets, a mean over the minibatch.
        after: called with the number of each step, 1 the first, before the gradients are cleared.

    Returns:
        The training loss of every step (nats, for cross entropy).
    """
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum, weight_decay=weight_decay)
    batches = minibatches(len(data.x_train), batch_size, seed)
    chance = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    for step in range(1, steps + 1):
        batch = next(batches)
        x = data.x_train[batch]
        if augment is not None:
            x = augment(x, chance)
        if schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr * schedule((step - 1) / steps)
        optimizer.zero_grad()
        found = loss(_outputs(net, x, data.lengths_train, batch), data.y_train[batch])
        found.backward()
        optimizer.step()
        losses.append(found.item())
        after(step)
        if not math.isfinite(losses[-1]):
            break

    return losses


def final(losses: Sequence[float], steps: int) -> float:
    """Mean training loss of the last tenth of the steps; inf for a run that stopped before.

    Args:
        losses: as :func:`fit` returns them.
        steps: that were to be made.
    """
    if len(losses) < steps or not math.isfinite(losses[-1]):
        return math.inf

    return statistics.fmean(losses[-max(1, steps // 10) :])


@torch.no_grad()
def accuracy(net: nn.Module, data: Dataset) -> float:
    """Share of the test set that is named rightly in eval mode; the mode is restored."""
    return float((predictions(net, data).argmax(1) == data.y_test).double().mean())


@torch.no_grad()
def predictions(net: nn.Module, data: Dataset, *, batch_size: int = 500) -> Tensor:
    """Outputs for the test set in eval mode, ``(m, outputs)``; the mode is restored."""
    mode = net.training
    net.eval()
    try:
        parts = torch.arange(len(data.x_test)).split(batch_size)
        return torch.cat([_outputs(net, data.x_test[i], data.lengths_test, i) for i in parts])
    finally:
        net.train(mode)


def _outputs(net: nn.Module, x: Tensor, lengths: Tensor | None, chosen: Tensor) -> Tensor:
    found: Tensor = net(x) if lengths is None else net(x, lengths[chosen])

    return found
