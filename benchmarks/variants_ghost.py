"""Ghost batches: our layer, a loop over chunks, and groups of samples as channels."""

import torch
import torch.nn.functional as F
from torch import Tensor

import batchnorm
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import Affine, kind, make_data, module_way, numbers

__all__ = ["trials"]


def trials() -> list[Trial]:
    """The last one has a ragged group."""
    return [
        _trial((16, 64, 56, 56), 4),
        _trial((16, 64, 56, 56), 4, nhwc=True),
        _trial((32, 512, 7, 7), 8),
        _trial((256, 1024), 32),
        _trial((30, 256, 14, 14), 8),
    ]


def _trial(shape: tuple[int, ...], size: int, *, nhwc: bool = False) -> Trial:
    def plain(data: Data) -> Way:
        return _forgetful(module_way(kind(shape, batchnorm)(shape[1]), data))

    def ours(data: Data) -> Way:
        ghost = kind(shape, batchnorm, "GhostBatchNorm")
        return _forgetful(module_way(ghost(shape[1], ghost_batch_size=size), data))

    public = {"loop over chunks": lambda data: loop(data, size)}
    if not nhwc and shape[0] % size == 0:
        public["groups as channels"] = lambda data: as_channels(data, size)
    return Trial(
        variant="ghost",
        shape=shape,
        detail=f"{'NHWC, ' if nhwc else ''}{size} samples each",
        numbers=numbers(shape),
        data=lambda: make_data(shape, nhwc=nhwc),
        ours=ours,
        plain=plain,
        public=public,
    )


def _forgetful(way: Way) -> Way:
    """Running statistics are not compared: the public ways decay them once per ghost batch."""
    way.memory = dict
    return way


def loop(data: Data, size: int) -> Way:
    """As Composer does: batch norm of each chunk, with a share of the momentum."""
    a = Affine(data)

    def forward() -> Tensor:
        chunks = a.x.split(size)
        share = 0.1 / len(chunks)
        return torch.cat(
            [F.batch_norm(x, a.mean, a.var, a.weight, a.bias, True, share) for x in chunks]
        )

    return _forgetful(a.way(forward))


def as_channels(data: Data, size: int) -> Way:
    """As in Page's cifar10-fast: no loop and no copy, but every k-th sample forms a group."""
    samples, channels, *space = data["input"].shape
    groups = samples // size
    order = torch.arange(samples).view(groups, size).t().reshape(-1)
    a = Affine({**data, "input": data["input"][order]})
    mean, var = a.mean.repeat(groups), a.var.repeat(groups)

    def forward() -> Tensor:
        weight, bias = a.weight.repeat(groups), a.bias.repeat(groups)
        x = a.x.view(size, groups * channels, *space)
        return F.batch_norm(x, mean, var, weight, bias, True).view(a.x.shape)

    return Way(forward, a.leaves, order=order)
