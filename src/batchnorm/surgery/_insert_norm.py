"""The norm that fits a place, and the numbers that it starts with."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .. import layers as our_layers
from .._types import BatchStats
from ..functional import batch_norm_stats
from ._proof import record

__all__ = ["Seen", "Start", "begin", "norm_for", "observe", "small_eps"]

Seen = dict[nn.Module, tuple[int, BatchStats]]
Start = Literal["standard", "identity"]


def observe(
    model: nn.Module, modules: list[nn.Module], sample: Any, *, inputs: bool = False
) -> Seen:
    """Rank and per-channel statistics of what comes out of (or goes into) modules, at inference."""
    seen: Seen = {}
    if sample is None:
        return seen

    def see(module: nn.Module, args: Any, output: Any) -> None:
        value = args[0] if inputs else output
        if isinstance(value, tuple):  # of a recurrent layer; packed or padded
            value = value[0]
        if not isinstance(value, Tensor):
            value = value.data
        last = isinstance(module, (nn.Linear, nn.RNNBase)) or value.ndim <= 2
        rows = value.movedim(-1, 1) if last and value.ndim > 2 else value
        seen[module] = (value.ndim, batch_norm_stats(rows))

    handles = [module.register_forward_hook(see) for module in modules]
    try:
        record(model, sample, gradients=False)
    finally:
        for handle in handles:
            handle.remove()

    return seen


def norm_for(layer: nn.Module, channels: int, rank: int | None, options: dict[str, Any]) -> Any:
    """A batch norm for what comes out of, or goes into, a layer.

    Raises:
        ValueError: there is none for such tensors.
    """
    anchor = next(layer.parameters())
    place: dict[str, Any] = {"device": anchor.device, "dtype": anchor.dtype}
    if isinstance(layer, _ConvNd):
        make = getattr(our_layers, f"BatchNorm{len(layer.kernel_size)}d")
    elif isinstance(layer, nn.RNNBase) or rank == 3:
        return our_layers.SequenceBatchNorm(channels, channel_axis=-1, **place, **options)
    elif rank in (None, 2):
        make = our_layers.BatchNorm1d
    else:
        raise ValueError(f"its values have {rank} dimensions, with the channels last")

    return make(channels, **place, **options)


@torch.no_grad()
def begin(norm: Any, stats: BatchStats | None, bias: Tensor | None, start: Start) -> None:
    """Statistics and parameters to start from; a bias that is dropped moves into the mean."""
    if norm.running_mean is None:
        return
    if start == "identity" and norm.affine:
        if stats is not None:
            norm.running_mean.copy_(stats.mean)
            norm.running_var.copy_(stats.var)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)
    if bias is not None:
        norm.running_mean.sub_(bias.to(norm.running_mean))


def small_eps(stats: BatchStats) -> float:
    """Torch's 1e-5, or less where features vary less; rounding of a constant is no variation."""
    noise = (4 * torch.finfo(stats.mean.dtype).eps * stats.mean).square()
    varying = stats.var[stats.var > noise]

    return 1e-5 * min(1.0, float(varying.min())) if varying.numel() else 1e-5
