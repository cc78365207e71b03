"""Two domains as one dataset of pairs, one image of each, and a network that takes pairs."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import batchnorm

from .._errors import explain
from .data import Dataset, load
from .models import ConvNet

__all__ = ["PAIRS", "DomainNet", "load_pair"]

PAIRS = {
    "digits+digits_m": ("Digits, plain and in photographs", 8),
    "mnist+mnist_m": ("MNIST and MNIST-M", 16),
    "mnist+svhn": ("MNIST and SVHN", 16),
}
"""By the names of both datasets: a title, and the width and height of the images."""


def load_pair(name: str, folder: Path | None = None) -> Dataset:
    """Pairs of images that share nothing but their classes.

    The first domain gives its even examples, the second its odd ones, because image i of MNIST-M
    is image i of MNIST in colour. The larger domain is cut to the size of the smaller. Grey
    images become three equal channels.

    Args:
        name: key of :data:`PAIRS`.
        folder: where the files lie.

    Returns:
        ``x_train (n, 2, 3, size, size)``, ``y_train (n, 2)``; the same for the test part.

    Raises:
        ValueError: an unknown name, or what :func:`batchnorm.lab.data.load` raises.
    """
    if name not in PAIRS:
        rule, cure = "the pair must be known", f"Use one of {', '.join(PAIRS)}"
        raise ValueError(explain("load_pair", rule, repr(name), cure))
    title, size = PAIRS[name]
    first, second = (load(part, folder, size=size) for part in name.split("+"))

    return replace(
        first,
        name=name,
        title=title,
        preparation=f"pairs of {size}×{size} colour images, even numbers of {first.title} with "
        f"odd ones of {second.title}; grey is repeated",
        x_train=_paired(_coloured(first.x_train), _coloured(second.x_train)),
        y_train=_paired(first.y_train, second.y_train),
        x_test=_paired(_coloured(first.x_test), _coloured(second.x_test)),
        y_test=_paired(first.y_test, second.y_test),
        digest=hashlib.sha256(f"{first.digest} {second.digest}".encode()).hexdigest(),
    )


def _paired(first: Tensor, second: Tensor) -> Tensor:
    even, odd = first[::2], second[1::2]
    count = min(len(even), len(odd))

    return torch.stack([even[:count], odd[:count]], 1)


def _coloured(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


class DomainNet(nn.Module):
    """A network that sees pairs of images, one of each domain.

    Args:
        way: ``"merged"``: both in one batch; ``"shared"``: one domain after the other, by the same
            batch norm; ``"separate"``: both in one batch, with a batch norm for each.
        seed: of the starting weights.
        classes: outputs.
    """

    def __init__(self, way: str, *, seed: int, classes: int) -> None:
        super().__init__()
        self.way = way
        norm = _one_for_each if way == "separate" else batchnorm.BatchNorm2d
        self.net = ConvNet(norm, seed=seed, channels=3, classes=classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, 2, classes)`` of pairs ``(N, 2, 3, H, W)``."""
        if self.way == "shared":
            return torch.stack([self.net(part) for part in x.unbind(1)], 1)
        if self.way == "separate":
            with batchnorm.domain(self.net, torch.arange(2).repeat(len(x))):
                return self._merged(x)
        return self._merged(x)

    def _merged(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.flatten(0, 1))

        return logits.reshape(-1, 2, logits.shape[1])


def _one_for_each(channels: int) -> nn.Module:
    return batchnorm.DomainBatchNorm2d(channels, num_domains=2)
