"""Running statistics of several kinds, kept beside each other while one network trains."""

from collections.abc import Mapping

import torch
from torch import nn

__all__ = ["Averages"]


class Averages:
    """What the batch norms of a network would keep, had they one momentum or another.

    Running statistics have no part in training, so that one run serves them all. The layers
    themselves keep the last batch alone; their next batch replaces whatever they were given.

    Args:
        net: with ``BatchNorm2d`` layers.
        momenta: by name; None averages all batches, as in the layers.
    """

    def __init__(self, net: nn.Module, momenta: Mapping[str, float | None]) -> None:
        self.momenta = momenta
        self.layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
        for layer in self.layers:
            layer.momentum = 1.0
        self.kept = {
            name: [(torch.zeros(n), torch.ones(n)) for n in (m.num_features for m in self.layers)]
            for name in momenta
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the batch of the step that the network has just made, 1 the first."""
        for name, momentum in self.momenta.items():
            weight = 1 / step if momentum is None else momentum
            for layer, (mean, var) in zip(self.layers, self.kept[name], strict=True):
                mean.lerp_(layer.get_buffer("running_mean"), weight)
                var.lerp_(layer.get_buffer("running_var"), weight)

    @torch.no_grad()
    def use(self, name: str) -> None:
        """Give the layers these running statistics."""
        for layer, (mean, var) in zip(self.layers, self.kept[name], strict=True):
            layer.get_buffer("running_mean").copy_(mean)
            layer.get_buffer("running_var").copy_(var)
