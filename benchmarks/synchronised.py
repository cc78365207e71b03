"""The formula of torch's SyncBatchNorm in operators that the CPU has.

Messages and arithmetic are those of ``torch/nn/modules/_functions.py``: one all-gather of mean,
inverse standard deviation and count, one all-reduce of two sums.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.trial import Data, Way
from benchmarks.variants_common import Affine, numbers, per_channel

__all__ = ["formula"]

EPS, MOMENTUM = 1e-5, 0.1


def formula(data: Data) -> Way:
    a = Affine(data)
    return a.way(lambda: _Sync.apply(a.x, a.weight, a.bias, a.mean, a.var))


class _Sync(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var):
        mean, var, total = _merge(x)
        running_mean.lerp_(mean, MOMENTUM)
        running_var.lerp_(var * (total / (total - 1)), MOMENTUM)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.total = total
        # By given statistics: torch's operator of inference.
        return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, EPS)[0]

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, var = ctx.saved_tensors
        direct, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, EPS, [True, True, True]
        )
        sums = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(sums)
        sum_dy, sum_dy_xhat = sums / ctx.total
        invstd = (var + EPS).rsqrt()
        # What flows through the statistics: weight · invstd · (sum_dy + x_hat · sum_dy_xhat).
        slope = weight * invstd * invstd * sum_dy_xhat
        shift = weight * invstd * sum_dy - slope * mean
        grad_x = direct.sub_(torch.addcmul(per_channel(shift, x), x, per_channel(slope, x)))
        return grad_x, grad_weight, grad_bias, None, None


def _merge(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean, biased variance and count over all ranks."""
    count = numbers(x.shape)
    mean, invstd = _local(x)
    packed = torch.cat([mean, invstd, mean.new_tensor([float(count)])])
    everyone = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, packed)
    means, invstds, counts = torch.stack(everyone).split([len(mean), len(mean), 1], 1)
    total = counts.sum()
    whole = (means * counts).sum(0) / total
    variances = invstds.pow(-2) - EPS
    var = ((variances + (means - whole).square()) * counts).sum(0) / total
    return whole, var, float(total)


def _local(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation by the fastest operator that the CPU has."""
    mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    return mean, (var + EPS).rsqrt()
