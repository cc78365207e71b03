"""LSTM and GRU with batch norm: ours, and a loop over cells with torch's batch norm.

The plain layer is torch's own, without batch norm.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import batchnorm
from benchmarks.cells import CELLS, Cells, behind_identity
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import leaf

__all__ = ["trials"]

GATES = {"lstm": 4, "gru": 3}
OURS = {"lstm": batchnorm.BatchNormLSTM, "gru": batchnorm.BatchNormGRU}
PLAIN = {"lstm": nn.LSTM, "gru": nn.GRU}


def trials() -> list[Trial]:
    """Shapes are (L, N, features); the state is as wide."""
    small, large = (25, 32, 64), (20, 64, 256)
    return [
        *(_trial(name, "recurrent", shape) for name in GATES for shape in (small, large)),
        _trial("lstm", "sequence", large),
    ]


def _trial(name: str, mode: str, shape: tuple[int, ...]) -> Trial:
    steps, batch, _ = shape
    public: dict[str, Callable[[Data], Way]] = {
        "loop over cells": lambda data: Cells(data, mode).way(CELLS[name])
    }
    if mode == "sequence":
        public["nn.LSTM behind an identity"] = behind_identity
    return Trial(
        variant=f"{name}, statistics per {'step' if mode == 'recurrent' else 'sequence'}",
        shape=shape,
        detail=f"{steps} steps",
        numbers=steps * batch,
        data=lambda: _data(shape, GATES[name]),
        ours=lambda data: ours(name, mode, data),
        plain=lambda data: plain(name, data),
        public=public,
    )


def _data(shape: tuple[int, ...], gates: int) -> Data:
    generator = torch.Generator().manual_seed(5)
    width = shape[2]
    rows = gates * width

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator)

    data = {"input": random(*shape), "grad": random(*shape)}
    data |= {name: random(rows, width) / width**0.5 for name in ("weight_ih", "weight_hh")}
    data |= {name: random(rows) * 0.1 for name in ("bias_ih", "bias_hh")}
    norms = {"norm_ih": rows, "norm_hh": rows, "norm_c": width}
    return data | {name: random(size) * 0.05 + 0.3 for name, size in norms.items()}


def ours(name: str, mode: str, data: Data) -> Way:
    x = leaf(data["input"])
    steps, _, width = x.shape
    layer = OURS[name](width, width, mode=mode, max_length=steps).to(x.dtype)
    norms = {key.removesuffix("_l0"): norm for key, norm in layer.named_children()}
    leaves = {"input": x}
    with torch.no_grad():
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            leaves[part] = getattr(layer, f"{part}_l0")
            leaves[part].copy_(data[part])
        for part, norm in norms.items():
            leaves[part] = norm.weight
            norm.weight.copy_(data[part])

    def memory() -> dict[str, Tensor]:
        means = [norm.running_mean.flatten() for norm in norms.values()]
        variances = [norm.running_var.flatten() for norm in norms.values()]
        return {"running_mean": torch.cat(means), "running_var": torch.cat(variances)}

    def forget() -> None:
        for norm in norms.values():
            norm.reset_running_stats()

    return Way(lambda: layer(x)[0], leaves, memory, forget)


def plain(name: str, data: Data) -> Way:
    """Torch's layer of the same size."""
    x = leaf(data["input"])
    layer = PLAIN[name](x.shape[2], x.shape[2])
    return Way(lambda: layer(x)[0], {"input": x, **dict(layer.named_parameters())})
