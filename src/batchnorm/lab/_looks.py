"""What enters the ReLUs of a network, looked at again and again while it trains."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import batchnorm

from ..watch.quantities._distribution import histograms

__all__ = ["BINS", "REACH", "Look", "columns", "fall", "farthest", "look", "still"]

BINS = 16
REACH = 4.0
"""Histograms go from minus to plus this."""


@dataclass(frozen=True)
class Look:
    """Every ReLU at one step.

    Args:
        step: minibatches before it.
        mean: of each ReLU's inputs.
        std: of each ReLU's inputs.
        silent: share of the last ReLU's outputs that are zero.
        shares: of the last ReLU's inputs in equal bins; the outer ones have what lies beyond.
    """

    step: int
    mean: list[float]
    std: list[float]
    silent: float
    shares: list[float]


@torch.no_grad()
def look(net: nn.Module, x: Tensor, step: int) -> Look:
    """Look at `net` in its mode; running statistics stay as they are."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten()))
        for module in net.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        with still(net):
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    last, end = seen[-1], torch.tensor([REACH])

    return Look(
        step,
        [float(inputs.mean()) for inputs in seen],
        [float(inputs.std()) for inputs in seen],
        float((last <= 0).double().mean()),
        (histograms(last[None], -end, end, BINS)[0] / len(last)).tolist(),
    )


def still(net: nn.Module) -> AbstractContextManager[object]:
    """No running statistics move, if there are any."""
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())

    return batchnorm.skip_updates(net) if normed else nullcontext()


def fall(std: Tensor) -> float:
    """Largest share of its highest value so far that a column loses; 1 if it is no number.

    Example:
        >>> fall(torch.tensor([[1.0, 2.0], [4.0, 2.0], [3.0, 6.0]]))
        0.25
    """
    left = std / std.cummax(0).values

    return float(1 - left.nan_to_num(0.0).min())


def farthest(factors: Tensor) -> float:
    """The factor that is farthest from 1, as a number above 1.

    Example:
        >>> farthest(torch.tensor([0.25, 1.0, 2.0]))
        4.0
    """
    return float(factors.log().abs().max().exp())


def columns(looks: Sequence[Look]) -> dict[str, list[Any]]:
    """Two tables, column by column: a row per look and layer, a row per look and bin."""
    width = 2 * REACH / BINS
    return {
        "step": [one.step for one in looks for _ in one.std],
        "layer": [layer for one in looks for layer, _ in enumerate(one.std, 1)],
        "mean": [mean for one in looks for mean in one.mean],
        "std": [std for one in looks for std in one.std],
        "bin_step": [one.step for one in looks for _ in one.shares],
        "bin": [width * (place + 0.5) - REACH for _ in looks for place in range(BINS)],
        "share": [share for one in looks for share in one.shares],
    }
