"""Every variant as (N, C, L) layer under one roof: how it is built and how it is called."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import batchnorm as bn

__all__ = ["C", "VARIANTS", "InNet", "Variant", "twice"]

C = 6


@dataclass(frozen=True)
class Variant:
    """One variant. ``call`` is what a forward needs beside the input, for a batch of N."""

    kind: Callable[..., nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    call: Callable[[int], dict[str, Any]] = lambda samples: {}

    def build(self, **options: Any) -> nn.Module:
        """A float64 layer with random weight and bias."""
        generator = torch.Generator().manual_seed(0)
        layer = self.kind(C, **{**self.options, **options}).double()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

        return layer

    def run(self, layer: nn.Module, x: torch.Tensor, **extras: Any) -> torch.Tensor:
        return layer(x, **self.call(len(x)), **extras)


def _mixed(samples: int) -> dict[str, Any]:
    return {"domain": torch.arange(samples) * 7 % 3}


VARIANTS = {
    "plain": Variant(bn.BatchNorm1d),
    "sync": Variant(bn.SyncBatchNorm),
    "ghost": Variant(bn.GhostBatchNorm1d, {"ghost_batch_size": 3}),
    "renorm": Variant(bn.BatchRenorm1d, {"r_max": 2.0, "d_max": 1.0}),
    "one_domain": Variant(bn.DomainBatchNorm1d, {"num_domains": 3}, lambda samples: {"domain": 1}),
    "domains": Variant(bn.DomainBatchNorm1d, {"num_domains": 3}, _mixed),
    "own_affine": Variant(bn.DomainBatchNorm1d, {"num_domains": 3, "shared_affine": False}, _mixed),
    "zca": Variant(bn.WhitenedBatchNorm1d, {"group_size": 3}),
    "newton": Variant(bn.WhitenedBatchNorm1d, {"method": "newton", "group_size": 3}),
    "sequence": Variant(bn.SequenceBatchNorm, {"channel_axis": 1}),
}


class InNet(nn.Module):
    """The layer between two others, as torch.compile, export and checkpointing see it."""

    def __init__(self, variant: Variant, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Conv1d(3, C, 3).double()
        self.norm = variant.build(**options)
        self.after = nn.Conv1d(C, 2, 1).double()
        self.variant = variant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.variant.run(self.norm, self.before(x)))


def twice(variant: Variant, **options: Any) -> tuple[InNet, InNet]:
    """Two equal nets."""
    return InNet(variant, **options), InNet(variant, **options)
