"""What the networks share: a convolution with its norm, and starting weights from a seed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["Classifier", "Norm", "building", "conv", "conv_norm", "eighths", "start"]

Norm = Callable[[int], nn.Module]
"""Makes the norm layer for a number of channels."""


def conv(inputs: int, outputs: int, kernel: int, norm: Norm | None, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the size at stride 1; with a bias only if no norm follows."""
    options = {"padding": kernel // 2, "bias": norm is None} | options

    return nn.Conv2d(inputs, outputs, kernel, **options)


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    norm: Norm | None,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
    **options: Any,
) -> nn.Sequential:
    """Convolution, norm (if any), activation (if any)."""
    parts: list[nn.Module] = [conv(inputs, outputs, kernel, norm, **options)]
    if norm is not None:
        parts.append(norm(outputs))
    if activation is not None:
        parts.append(activation())

    return nn.Sequential(*parts)


def eighths(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and not below 90 %.

    Source: Howard et al. 2017, the authors' ``make_divisible``.

    Example:
        >>> [eighths(c) for c in (3, 18, 20, 24.5)]
        [8, 24, 24, 24]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)

    return rounded if rounded >= 0.9 * channels else rounded + 8


@contextmanager
def building() -> Iterator[None]:
    """Layers made here draw their first weights from a generator of their own."""
    with torch.random.fork_rng(devices=[]):
        yield


@torch.no_grad()
def start(model: nn.Module, seed: int) -> None:
    """He's normal weights for convolutions, 1/√fan_in uniform ones elsewhere, biases zero.

    Source: He et al. 2015 (arXiv:1502.01852).
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            _zero(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            _zero(module.bias)
        elif isinstance(module, nn.LSTM):
            bound = module.hidden_size**-0.5
            for name, parameter in module.named_parameters():
                if "weight" in name:
                    parameter.uniform_(-bound, bound, generator=generator)
                else:
                    parameter.zero_()


def _zero(bias: torch.Tensor | None) -> None:
    if bias is not None:
        bias.zero_()


class Classifier(nn.Module):
    """Features, their mean over positions, and a linear layer.

    Args:
        features: image → ``(N, C, H, W)``.
        head: ``(N, C)`` → logits.
        seed: of the starting weights.
    """

    def __init__(self, features: nn.Module, head: nn.Module, seed: int) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = head
        start(self, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of images ``(N, channels, H, W)``."""
        logits: torch.Tensor = self.head(self.pool(self.features(x)).flatten(1))

        return logits
