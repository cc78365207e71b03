"""Batch renormalization: our layer, the paper's formula, and r and d inside weight and bias."""

import torch
import torch.nn.functional as F
from torch import Tensor

import batchnorm
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import Affine, kind, make_data, module_way, numbers, per_channel

__all__ = ["trials"]

R_MAX, D_MAX, EPS, MOMENTUM = 3.0, 5.0, 1e-5, 0.1


def trials() -> list[Trial]:
    return [_trial(shape) for shape in ((16, 64, 56, 56), (32, 512, 7, 7), (256, 1024))]


def _trial(shape: tuple[int, ...]) -> Trial:
    def ours(data: Data) -> Way:
        renorm = kind(shape, batchnorm, "BatchRenorm")
        return module_way(renorm(shape[1], r_max=R_MAX, d_max=D_MAX), data)

    return Trial(
        variant="renorm",
        shape=shape,
        detail=f"r to {R_MAX:g}, d to {D_MAX:g}",
        numbers=numbers(shape),
        data=lambda: make_data(shape),
        ours=ours,
        plain=lambda data: module_way(kind(shape, batchnorm)(shape[1]), data),
        public={"formula": formula, "by batch_norm": folded},
    )


class _Renorm(Affine):
    """Running statistics, and r and d from them."""

    def correct(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """R and d of a batch, constants; the batch then enters memory."""
        with torch.no_grad():
            std = (self.var + EPS).sqrt()
            r = ((var + EPS).sqrt() / std).clamp_(1 / R_MAX, R_MAX)
            d = ((mean - self.mean) / std).clamp_(-D_MAX, D_MAX)
            count = numbers(self.x.shape)
            self.mean.lerp_(mean, MOMENTUM)
            self.var.lerp_(var * (count / (count - 1)), MOMENTUM)
        return r, d


def _dims(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]


def formula(data: Data) -> Way:
    """As the paper writes it, one operator after the other."""
    a = _Renorm(data)

    def forward() -> Tensor:
        var, mean = torch.var_mean(a.x, _dims(a.x), correction=0)
        r, d = a.correct(mean, var)
        std = (var + EPS).sqrt()
        mean, std, r, d, weight, bias = (
            per_channel(values, a.x) for values in (mean, std, r, d, a.weight, a.bias)
        )
        return ((a.x - mean) / std * r + d) * weight + bias

    return a.way(forward)


def folded(data: Data) -> Way:
    """Torch's fused operator, whose weight and bias contain r and d."""
    a = _Renorm(data)

    def forward() -> Tensor:
        var, mean = torch.var_mean(a.x.detach(), _dims(a.x), correction=0)
        r, d = a.correct(mean, var)
        weight, bias = a.weight * r, torch.addcmul(a.bias, a.weight, d)
        return F.batch_norm(a.x, None, None, weight, bias, True)

    return a.way(forward)
