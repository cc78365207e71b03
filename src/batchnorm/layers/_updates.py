"""The statistics transaction for a whole model: accumulate, skip, switch off and on."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn

from .._errors import explain
from .._types import BatchStats
from ..ops import choose_lane
from ._batchnorm import _BatchNorm

__all__ = ["accumulate", "set_updates", "skip_updates"]


def _layers(model: nn.Module, who: str) -> list[_BatchNorm]:
    """Our layers in the model, each once.

    Raises:
        ValueError: there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        raise ValueError(
            explain(
                who,
                "the model must have batch norm layers of this package",
                f"{type(model).__name__} with no batch norm of ours",
                "Build it with batchnorm.BatchNorm1d, 2d or 3d",
            )
        )

    return layers


@contextmanager
def accumulate(model: nn.Module) -> Iterator[None]:
    """Several micro-batches, one commit: what they propose is merged and committed at the end.

    Each micro-batch is still normalised by itself. Values are weighed by their count, channels
    that are not finite are left out (and counted), and nothing is committed when the body raises.

    Args:
        model: every layer of ours in it takes part.

    Raises:
        ValueError: the model has no layer of ours.

    Example:
        >>> layer = batchnorm.BatchNorm1d(3)
        >>> with accumulate(layer):
        ...     for _ in range(4):
        ...         _ = layer(torch.randn(8, 3))
        >>> layer.num_batches_tracked
        tensor(1)
    """
    layers = _layers(model, "accumulate")
    outer = [layer._pending for layer in layers]
    proposals: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in layers]
    for layer, pending in zip(layers, proposals, strict=True):
        layer._pending = pending
    try:
        yield
    finally:
        for layer, previous in zip(layers, outer, strict=True):
            layer._pending = previous

    for layer, pending in zip(layers, proposals, strict=True):
        _finish(layer, [layer._statistics(*proposal) for proposal in pending])


def _finish(layer: _BatchNorm, proposals: list[BatchStats]) -> None:
    """Merge proposals and commit them once, or hand them to the enclosing ``accumulate``."""
    if not proposals:
        return

    if layer._pending is not None:
        layer._pending.extend((stats.mean, stats.var, stats.count) for stats in proposals)
        return

    merged = reduce(type(proposals[0]).merge, [stats.finite() for stats in proposals])
    lost = torch.stack([(stats.count > 0) & ~stats.is_finite for stats in proposals]).sum(0)
    # A channel that lost every batch is committed as not finite, which counts one of them.
    all_lost = (merged.count == 0) & (lost > 0)
    parts = lost - all_lost.long()
    if layer.num_nonfinite is not None and parts.any():
        layer.num_nonfinite += parts
        layer._lost_parts = parts if layer._lost_parts is None else layer._lost_parts + parts
    mean = torch.where(all_lost, torch.nan, merged.mean)
    count = torch.where(all_lost, 1, merged.count)
    layer._commit(choose_lane(mean), (mean, merged.var, count))


@contextmanager
def skip_updates(model: nn.Module) -> Iterator[None]:
    """Normalise by the batch without committing anything.

    For a forward in training mode that is not a training step: a probe, a gradient penalty, the
    second pass of a sharpness-aware optimiser.

    Args:
        model: every layer of ours in it takes part.

    Raises:
        ValueError: the model has no layer of ours.

    Example:
        >>> layer = batchnorm.BatchNorm1d(3)
        >>> with skip_updates(layer):
        ...     _ = layer(torch.randn(8, 3))
        >>> layer.num_batches_tracked
        tensor(0)
    """
    layers = _layers(model, "skip_updates")
    before = [layer._updates for layer in layers]
    set_updates(model, False)
    try:
        yield
    finally:
        for layer, updates in zip(layers, before, strict=True):
            layer._updates = updates


def set_updates(model: nn.Module, enabled: bool) -> None:
    """Switch the running statistics' updates off or on, until switched again.

    Args:
        model: every layer of ours in it takes part; train and eval mode stay as they are.
        enabled: whether batches are committed.

    Raises:
        ValueError: the model has no layer of ours.

    Example:
        >>> layer = batchnorm.BatchNorm1d(3)
        >>> set_updates(layer, False)
        >>> layer
        BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, \
updates=False)
    """
    for layer in _layers(model, "set_updates"):
        layer._updates = enabled
