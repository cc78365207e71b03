"""The norms that experiments set beside each other, for images."""

import math
from collections.abc import Mapping

from torch import nn

import batchnorm

from .models import Norm

__all__ = ["NORMS", "ghost"]

GROUPS = 8


def _layer(channels: int) -> nn.Module:
    return nn.GroupNorm(1, channels)


def _group(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _renorm(channels: int) -> nn.Module:
    return batchnorm.BatchRenorm2d(channels, r_max=3.0, d_max=5.0)


def ghost(size: int) -> Norm:
    """Batch norm over `size` examples at a time."""
    return lambda channels: batchnorm.GhostBatchNorm2d(channels, ghost_batch_size=size)


NORMS: Mapping[str, Norm | None] = {
    "none": None,
    "batch": batchnorm.BatchNorm2d,
    "layer": _layer,
    "instance": _instance,
    "group": _group,
    "renorm": _renorm,
}
"""By name: a layer for a number of channels; layer norm is over channels and positions, group norm
has 8 groups, renorm the bounds that its paper ends with, without a ramp."""
