"""The fully connected network of the small experiments."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ._parts import Norm

__all__ = ["Mlp", "Placement"]

Placement = Literal["before", "after"]
Start = Callable[[Tensor, torch.Generator], object]


def glorot(weight: Tensor, generator: torch.Generator) -> None:
    """Glorot and Bengio's uniform start (2010)."""
    nn.init.xavier_uniform_(weight, generator=generator)


class Mlp(nn.Module):
    """Fully connected layers, each with or without a norm before or after its activation.

    Args:
        features: numbers per example.
        classes: outputs.
        norm: makes a layer for a number of features, or None.
        seed: of the starting weights; torch's global generator is neither read nor moved.
        hidden: width of each hidden layer.
        depth: number of hidden layers.
        activation: of each hidden layer.
        placement: of the norm: before or after the activation.
        bias: of the hidden layers; None for one where there is no norm.
        start: fills a weight; biases start at zero.
        norm_output: the outputs are normalised too.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        norm: Norm | None,
        *,
        seed: int,
        hidden: int = 100,
        depth: int = 3,
        activation: Callable[[Tensor], Tensor] = torch.sigmoid,
        placement: Placement = "before",
        bias: bool | None = None,
        start: Start = glorot,
        norm_output: bool = False,
    ) -> None:
        super().__init__()
        biased = norm is None if bias is None else bias
        self.activation, self.placement = activation, placement
        self.linears = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, width, hidden, bias=biased)
            for width in (features, *[hidden] * (depth - 1))
        )
        self.norms = nn.ModuleList(norm(hidden) if norm else nn.Identity() for _ in range(depth))
        self.head = nn.utils.skip_init(nn.Linear, hidden, classes)
        self.last = norm(classes) if norm and norm_output else nn.Identity()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for linear in (*self.linears, self.head):
                start(linear.weight, generator)
                if linear.bias is not None:
                    linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` for ``x`` of shape ``(N, features)``."""
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = linear(x)
            before = self.placement == "before"
            x = self.activation(norm(x)) if before else norm(self.activation(x))
        logits: Tensor = self.last(self.head(x))

        return logits
