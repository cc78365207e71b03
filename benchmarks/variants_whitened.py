"""Whitening: our layer, and ZCA and Newton's iterations in torch's operators."""

from collections.abc import Callable

import torch
from torch import Tensor

import batchnorm
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import Affine, kind, make_data, module_way, numbers, per_channel

__all__ = ["trials"]

EPS, MOMENTUM, ITERATIONS = 1e-5, 0.1, 5


def trials() -> list[Trial]:
    sizes = {(16, 64, 56, 56): 16, (32, 512, 7, 7): 64, (256, 1024): 32}
    return [
        _trial(method, shape, size)
        for method in ("zca", "newton") for shape, size in sizes.items()
    ]  # fmt: skip


def _trial(method: str, shape: tuple[int, ...], size: int) -> Trial:
    def ours(data: Data) -> Way:
        whitened = kind(shape, batchnorm, "WhitenedBatchNorm")
        layer = whitened(shape[1], method=method, iterations=ITERATIONS, group_size=size)
        return _forgetful(module_way(layer, data))

    root = {"zca": zca, "newton": newton}[method]
    return Trial(
        variant=f"whitened, {method}",
        shape=shape,
        detail=f"{size} channels together",
        numbers=numbers(shape),
        data=lambda: _data(shape, size),
        ours=ours,
        plain=lambda data: _forgetful(module_way(kind(shape, batchnorm)(shape[1]), data)),
        public={"torch operators": lambda data: whitened(data, size, root)},
    )


def _data(shape: tuple[int, ...], size: int) -> Data:
    """Neighbouring channels go together, so that there is something to whiten."""
    data = make_data(shape)
    generator = torch.Generator().manual_seed(2)
    mix = torch.eye(size) + torch.randn(size, size, generator=generator) * 0.3 / size**0.5
    x = data["input"].movedim(1, -1)
    mixed = (x.unflatten(-1, (-1, size)) @ mix).flatten(-2)
    return {**data, "input": mixed.movedim(-1, 1).contiguous()}


def _forgetful(way: Way) -> Way:
    """Memory is not compared: the public ways average the matrices, ours the covariances."""
    way.memory = dict
    return way


def zca(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT


def newton(covariance: Tensor) -> Tensor:
    """Huang et al. 2019, Alg. 1."""
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    unit = covariance / trace
    root = torch.eye(covariance.shape[-1], dtype=covariance.dtype).expand_as(covariance)
    for _ in range(ITERATIONS):
        root = torch.baddbmm(root, root @ root @ root, unit, beta=1.5, alpha=-0.5)
    return root * trace.rsqrt()


def whitened(data: Data, size: int, root: Callable[[Tensor], Tensor]) -> Way:
    """As the authors' layers: mean, covariance, its root, a product.

    Memory averages the mean and the root.
    """
    a = Affine(data)
    samples, channels, *space = a.x.shape
    groups = channels // size
    running = torch.eye(size, dtype=a.x.dtype).repeat(groups, 1, 1)
    identity = EPS * torch.eye(size, dtype=a.x.dtype)

    def forward() -> Tensor:
        rows = a.x.transpose(0, 1).reshape(groups, size, -1)
        mean = rows.mean(-1, keepdim=True)
        centred = rows - mean
        covariance = torch.baddbmm(identity, centred, centred.mT, alpha=1 / rows.shape[-1])
        matrix = root(covariance)
        with torch.no_grad():
            a.mean.lerp_(mean.flatten(), MOMENTUM)
            running.lerp_(matrix, MOMENTUM)
        output = (matrix @ centred).view(channels, samples, *space).transpose(0, 1)
        return torch.addcmul(per_channel(a.bias, a.x), output, per_channel(a.weight, a.x))

    return Way(forward, a.leaves)
