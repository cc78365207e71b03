"""A data set whose items come through our layer, for loader workers of every kind."""

import torch
from torch import nn
from torch.utils.data import Dataset

import batchnorm as bn


class Normalised(Dataset):
    """Eight batches, normalised where they are loaded."""

    def __init__(self, training: bool) -> None:
        self.layer: nn.Module = bn.BatchNorm2d(16, activation="relu").train(training)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> torch.Tensor:
        g = torch.Generator().manual_seed(i)
        with torch.no_grad():
            return self.layer(torch.randn(4, 16, 48, 48, generator=g))


def forked(queue, layer, x) -> None:
    """Body of a forked child: one thread, as torch's own workers."""
    torch.set_num_threads(1)
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(torch.ones_like(y))
    queue.put((y.sum().item(), layer.num_batches_tracked.item()))
