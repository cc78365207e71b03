"""The fully connected network of the first experiment, and the arms it is compared in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import batchnorm

__all__ = ["ARMS", "Arm", "SigmoidNet"]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: what, if anything, normalises each hidden layer.

    Args:
        name: key in :data:`ARMS` and in stored trials.
        label: the name in tables and charts.
        norm: makes the layer for a number of features; None for no norm.
    """

    name: str
    label: str
    norm: Callable[[int], nn.Module] | None


ARMS = {
    arm.name: arm
    for arm in (
        Arm("plain", "no norm", None),
        Arm("batchnorm", "batch norm (ours)", batchnorm.BatchNorm1d),
        Arm("torch", "batch norm (torch)", nn.BatchNorm1d),
    )
}


class SigmoidNet(nn.Module):
    r"""Fully connected sigmoid layers, each with or without a norm before its sigmoid.

    .. math:: u \mapsto \mathrm{sigmoid}(W u + b) \qquad
       u \mapsto \mathrm{sigmoid}(\mathrm{BN}(W u))

    The norm makes the hidden bias redundant, so it is dropped there; the output layer has a bias
    and no norm. The starting weights depend on `seed` only, not on the norm.

    Args:
        features: numbers per example.
        classes: outputs.
        norm: makes a layer for a number of features, or None.
        seed: of the starting weights; torch's global generator is neither read nor moved.
        hidden: width of each hidden layer.
        depth: number of hidden layers.
        weight_std: standard deviation of the Gaussian weights; biases start at zero.

    Source: Ioffe & Szegedy 2015, section 4.1 and section 3.2 for the bias (arXiv:1502.03167).
    """

    def __init__(
        self,
        features: int,
        classes: int,
        norm: Callable[[int], nn.Module] | None,
        *,
        seed: int,
        hidden: int = 100,
        depth: int = 3,
        weight_std: float = 0.1,
    ) -> None:
        super().__init__()
        self.linears = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, width, hidden, bias=norm is None)
            for width in (features, *[hidden] * (depth - 1))
        )
        self.norms = nn.ModuleList(norm(hidden) if norm else nn.Identity() for _ in range(depth))
        self.head = nn.utils.skip_init(nn.Linear, hidden, classes)
        self._start(seed, weight_std)

    @torch.no_grad()
    def _start(self, seed: int, weight_std: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        for linear in (*self.linears, self.head):
            linear.weight.normal_(0, weight_std, generator=generator)
            if linear.bias is not None:
                linear.bias.zero_()

    def last_input(self, x: Tensor) -> Tensor:
        """What enters the last hidden layer's sigmoids: ``(N, hidden)``, after the norm if any."""
        for linear, norm in zip(self.linears[:-1], self.norms[:-1], strict=True):
            x = torch.sigmoid(norm(linear(x)))
        last: Tensor = self.norms[-1](self.linears[-1](x))
        return last

    def output(self, last_input: Tensor) -> Tensor:
        """Logits ``(N, classes)`` from :meth:`last_input`'s result."""
        logits: Tensor = self.head(torch.sigmoid(last_input))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` for ``x`` of shape ``(N, features)``."""
        return self.output(self.last_input(x))
