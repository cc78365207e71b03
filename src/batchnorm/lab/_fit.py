"""Training a classifier, the same bits whenever it runs again on the same machine."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from .data import Dataset

__all__ = ["accuracy", "fit", "minibatches"]


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
    after: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Train by SGD on cross entropy.

    A run whose loss is not finite stops there.

    Args:
        net: logits ``(N, classes)`` from ``(N, features)``; in training mode, here and after.
        data: what to learn.
        lr: learning rate.
        steps: minibatches.
        seed: of their order.
        batch_size: examples in each.
        momentum: of SGD.
        weight_decay: of SGD.
        after: called with the number of each step, 1 the first, before the gradients are cleared.

    Returns:
        The training loss (nats) of every step.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum, weight_decay=weight_decay)
    batches = minibatches(len(data.x_train), batch_size, seed)
    losses: list[float] = []
    for step in range(1, steps + 1):
        batch = next(batches)
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(data.x_train[batch]), data.y_train[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        after(step)
        if not math.isfinite(losses[-1]):
            break

    return losses


@torch.no_grad()
def accuracy(net: nn.Module, data: Dataset) -> float:
    """Share of the test set that is named rightly in eval mode; the mode is restored."""
    mode = net.training
    net.eval()
    right = net(data.x_test).argmax(1) == data.y_test
    net.train(mode)

    return float(right.double().mean())
