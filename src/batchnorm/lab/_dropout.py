"""Fully connected networks with dropout, and what dropout and small batches do to batch norm."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import batchnorm

from .models import Mlp

__all__ = ["BATCH", "batch_noise", "dropped", "variance_shift"]

BATCH = 64  # examples of the gradient


def dropped(net: Mlp, share: float, *, last: bool = False) -> Mlp:
    """The network with dropout behind every activation, or only in front of its last layer."""
    if last:
        net.head = nn.Sequential(nn.Dropout(share), net.head)
    else:
        net.activation = nn.Sequential(nn.ReLU(), nn.Dropout(share))

    return net


@torch.no_grad()
def variance_shift(net: Mlp, x: Tensor) -> float:
    """Variance that enters the norms without dropout, over that with it.

    The geometric mean over channels of all norms but the first, which no dropout precedes.
    Channels that are constant without dropout do not count.

    Args:
        net: in training mode, here and after.
        x: everything, ``(N, features)``.

    Source: Li et al. 2018 (arXiv:1801.05134), section 3.
    """
    drops = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    with_it = _variances(net, x)
    for drop in drops:
        drop.eval()
    without = _variances(net, x)
    for drop in drops:
        drop.train()
    alive = without > 0

    return float((without[alive] / with_it[alive]).log().mean().exp())


def _variances(net: Mlp, x: Tensor) -> Tensor:
    with batchnorm.skip_updates(net):
        return torch.cat([entering.var(0) for entering in _entering(net, x)][1:])


def _entering(net: Mlp, x: Tensor) -> Iterator[Tensor]:
    for linear, norm in zip(net.linears, net.norms, strict=True):
        x = linear(x)
        yield x
        x = net.activation(norm(x))


@torch.no_grad()
def batch_noise(x: Tensor, size: int) -> float:
    """What normalising `size` examples at a time adds: root mean square, in standard deviations.

    Args:
        x: ``(N, features)``; they are shuffled, and those that fill no batch are left out.
        size: examples of a batch.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    whole = x[order[: len(x) // size * size]]
    parts = batchnorm.GhostBatchNorm1d(x.shape[1], affine=False, ghost_batch_size=size)
    together = batchnorm.BatchNorm1d(x.shape[1], affine=False)

    return float((parts(whole) - together(whole)).square().mean().sqrt())
