"""Which norm is which: equalities between batch, ghost, domain, instance, group and layer norm."""

import pytest
import torch
from torch import nn

import batchnorm as bn

N, C, L = 4, 6, 5
OPTIONS = {"affine": False, "track_running_stats": False}


def batch_norm(channels=C):
    return bn.BatchNorm1d(channels, **OPTIONS)


def ghost(size):
    return bn.GhostBatchNorm1d(C, ghost_batch_size=size, **OPTIONS)


def domains(labels):
    layer = bn.DomainBatchNorm1d(C, num_domains=N, affine=False)
    return lambda x: layer(x, torch.tensor(labels))


def as_groups(x):
    return batch_norm(2 * N)(x.view(1, 2 * N, C // 2 * L)).view_as(x)


PAIRS = {
    "group norm with one group is layer norm": (
        nn.GroupNorm(1, C, affine=False),
        nn.LayerNorm([C, L], elementwise_affine=False),
    ),
    "group norm with C groups is instance norm": (
        nn.GroupNorm(C, C, affine=False),
        nn.InstanceNorm1d(C),
    ),
    "ghost batches of one are instance norm": (ghost(1), nn.InstanceNorm1d(C)),
    "one ghost batch is batch norm": (ghost(N), batch_norm()),
    "batch norm of 1 x NG channels is group norm": (as_groups, nn.GroupNorm(2, C, affine=False)),
    "one domain is batch norm": (domains([2, 2, 2, 2]), batch_norm()),
    "a domain a sample is instance norm": (domains([3, 1, 0, 2]), nn.InstanceNorm1d(C)),
}


def output_and_gradient(norm, x, cotangent):
    x = x.clone().requires_grad_()
    y = norm(x)

    return y.detach(), torch.autograd.grad(y, x, cotangent)[0]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_two_names_for_one_norm(pair):
    x, cotangent = torch.randn(2, N, C, L, dtype=torch.float64)
    for one, other in zip(*(output_and_gradient(norm, x, cotangent) for norm in pair), strict=True):
        torch.testing.assert_close(one, other)


def test_batch_norm_of_one_sample_is_instance_norm():
    x, cotangent = torch.randn(2, 1, C, L, dtype=torch.float64)
    pair = [
        output_and_gradient(norm, x, cotangent) for norm in (batch_norm(), nn.InstanceNorm1d(C))
    ]
    for one, other in zip(*pair, strict=True):
        torch.testing.assert_close(one, other)


def test_batch_norm_of_the_transpose_is_layer_norm():
    x, cotangent = torch.randn(2, N, C, dtype=torch.float64)
    pair = [
        output_and_gradient(lambda x: batch_norm(N)(x.T).T, x, cotangent),
        output_and_gradient(nn.LayerNorm(C, elementwise_affine=False), x, cotangent),
    ]
    for one, other in zip(*pair, strict=True):
        torch.testing.assert_close(one, other)
