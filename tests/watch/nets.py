"""A small network and a training of it that can be repeated exactly."""

import contextlib

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import batchnorm as bn

NORMS = ("1", "5")


def net(norm=bn.BatchNorm2d, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        norm(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.2),
        nn.Conv2d(6, 4, 3),
        norm(4),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )


def batches(count: int, size: int = 12, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 3, 10, 10, generator=g) + 1, torch.randint(5, (size,), generator=g))
        for _ in range(count)
    ]


def train(model: nn.Module, steps: int = 5, watcher=None, inner: nn.Module | None = None):
    """Steps of SGD from one seed; ``watcher(optimizer)`` goes around them. Returns it."""
    optimizer = torch.optim.SGD((inner or model).parameters(), 0.05, momentum=0.9)
    around = contextlib.nullcontext() if watcher is None else watcher(optimizer)
    torch.manual_seed(2)
    with around as watching:
        for x, y in batches(steps):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            if watching is not None:
                watching.log(loss=loss)
            optimizer.step()
    return watching


def hooks(model: nn.Module) -> int:
    """How many hooks there are in the whole model."""
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
