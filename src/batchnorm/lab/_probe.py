"""A look at a network in the middle of its training."""

from contextlib import nullcontext
from dataclasses import asdict
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from ._landscape import along_gradient, gradient_shift
from .data import Dataset
from .models import Mlp

__all__ = ["Probe", "moved"]

EXAMPLES = 256
STRIDES = (0.5, 1.0, 2.0, 4.0)  # in learning rates
Distributions = tuple[Tensor, Tensor]


class Probe:
    """Looks at a network in training mode, on the same examples, and leaves it as it was.

    Args:
        net: without a norm, or with batch norm.
        data: its first training examples are looked at.
        lr: learning rate of the training.
    """

    def __init__(self, net: Mlp, data: Dataset, lr: float) -> None:
        self.net, self.lr = net, lr
        self.x, self.y = data.x_train[:EXAMPLES], data.y_train[:EXAMPLES]
        hidden = zip(net.linears, net.norms, strict=True)
        self.layers = [[*linear.parameters(), *norm.parameters()] for linear, norm in hidden]
        self.layers.append(list(net.head.parameters()))
        plain = isinstance(net.norms[0], nn.Identity)
        self.undisturbed = nullcontext if plain else batchnorm.skip_updates
        self.rows: list[dict[str, float]] = []
        self.before = self._distributions()

    def look(self, step: int) -> None:
        """Add a row."""
        parameters = list(self.net.parameters())
        with self.undisturbed(self.net):
            now = self._distributions()
            shifts = gradient_shift(self._loss, self.layers, self.lr)
            along = along_gradient(self._loss, parameters, [s * self.lr for s in STRIDES])
        self.rows.append(
            {
                "at": step,
                "moved": moved(self.before, now),
                "gradient_shift": fmean(shift.change for shift in shifts),
                "cosine": fmean(shift.cosine for shift in shifts),
                **asdict(along),
            }
        )
        self.before = now

    def _loss(self) -> Tensor:
        return functional.cross_entropy(self.net(self.x), self.y)

    @torch.no_grad()
    def _distributions(self) -> Distributions:
        """Mean and standard deviation of what enters each activation, ``(layers, hidden)``."""
        x, entering = self.x, []
        with self.undisturbed(self.net):
            for linear, norm in zip(self.net.linears, self.net.norms, strict=True):
                entering.append(norm(linear(x)))
                x = self.net.activation(entering[-1])
        std, mean = torch.std_mean(torch.stack(entering), 1, correction=0)

        return mean, std


def moved(before: Distributions, now: Distributions) -> float:
    """Wasserstein distance of two normal distributions, in standard deviations of the first.

    The median over units.
    """
    (mean, std), (later_mean, later_std) = before, now
    distance = ((later_mean - mean).square() + (later_std - std).square()).sqrt()

    return float((distance / std).median())
