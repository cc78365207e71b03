"""A weight and bias for each sample: our layer, and batch norm followed by mul and add."""

import torch
import torch.nn.functional as F
from torch import Tensor

import batchnorm
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import Affine, kind, make_data, module_way, numbers, per_channel

__all__ = ["trials"]


def trials() -> list[Trial]:
    return [_trial(shape) for shape in ((16, 64, 56, 56), (32, 512, 7, 7), (256, 1024))]


def _trial(shape: tuple[int, ...]) -> Trial:
    def plain(data: Data) -> Way:
        one = {name: data[name][0] for name in ("weight", "bias")}
        return module_way(kind(shape, batchnorm)(shape[1]), {**data, **one})

    return Trial(
        variant="conditional",
        shape=shape,
        detail="weight and bias per sample",
        numbers=numbers(shape) // shape[0],
        data=lambda: _data(shape),
        ours=lambda data: ours(shape, data),
        plain=plain,
        public={"mul and add": mul_add, "addcmul": addcmul},
    )


def _data(shape: tuple[int, ...]) -> Data:
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(shape[:2], generator=generator) + 0.5
    return {
        **make_data(shape),
        "weight": weight,
        "bias": torch.randn(shape[:2], generator=generator) * 0.2,
    }


def ours(shape: tuple[int, ...], data: Data) -> Way:
    layer = kind(shape, batchnorm)(shape[1], affine=False)
    given = Affine(data)
    way = module_way(layer, data)
    way.leaves = given.leaves
    way.forward = lambda: layer(given.x, weight=given.weight, bias=given.bias)
    return way


def mul_add(data: Data) -> Way:
    a = Affine(data)

    def forward() -> Tensor:
        x_hat = F.batch_norm(a.x, a.mean, a.var, None, None, True)
        return x_hat * per_channel(a.weight, a.x) + per_channel(a.bias, a.x)

    return a.way(forward)


def addcmul(data: Data) -> Way:
    a = Affine(data)

    def forward() -> Tensor:
        x_hat = F.batch_norm(a.x, a.mean, a.var, None, None, True)
        return torch.addcmul(per_channel(a.bias, a.x), x_hat, per_channel(a.weight, a.x))

    return a.way(forward)
