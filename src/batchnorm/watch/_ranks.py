"""Ranks put together what each of them has measured."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from .._types import BatchStats
from ._recorder import Heard
from ._values import Values

__all__ = ["Ranks"]


class Ranks:
    """The processes of a training; one without an initialised process group.

    Attributes:
        size: how many.
        rank: which one this is.
        share: values of a sample that each takes.

    Args:
        across: False: each process for itself.
        device: of the model.
        size: of the samples of all ranks together.
    """

    def __init__(self, across: bool, device: torch.device, size: int) -> None:
        there = across and dist.is_available() and dist.is_initialized()
        self.size = dist.get_world_size() if there else 1
        self.rank = dist.get_rank() if there else 0
        self.share = max(64, size // self.size)
        self._device = device if there and "nccl" in dist.get_backend() else torch.device("cpu")

    def unite(self, heard: Sequence[Heard], failed: bool) -> list[Heard] | None:
        """What all ranks have heard together; None where one has failed or they differ.

        All ranks make this call. Everything comes out on the CPU, statistics in float64.
        """
        if self.size == 1 and failed:
            return None
        if self.size > 1 and not self._agree(heard, failed):
            return None

        sides = _sides(heard)
        parts = _packed(sides, self.share)
        vectors, samples = (
            [[part] for part in parts] if self.size == 1 else [self._gather(p) for p in parts]
        )
        united = _unpacked(sides, vectors, samples)
        for one in heard:
            one.input = one.input and united[id(one.input)]
            one.output = one.output and united[id(one.output)]

        return list(heard)

    def _agree(self, heard: Sequence[Heard], failed: bool) -> bool:
        shape = ";".join(f"{h.path} {_layout(h)}" for h in heard)
        head = torch.tensor([int(failed), zlib.crc32(shape.encode())])
        heads = torch.stack(self._gather(head))

        return not heads[:, 0].any() and bool((heads[:, 1] == heads[0, 1]).all())

    def _gather(self, values: Tensor) -> list[Tensor]:
        values = values.contiguous().to(self._device)
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)

        return [part.cpu() for part in parts]


def _sides(heard: Sequence[Heard]) -> list[Values]:
    """Each once: what leaves a batch norm and enters a ReLU is the same."""
    sides = (side for one in heard for side in (one.input, one.output) if side is not None)

    return list({id(side): side for side in sides}.values())


def _layout(heard: Heard) -> list[int]:
    return [
        0 if side is None else side.stats.mean.numel() * _width(side)
        for side in (heard.input, heard.output)
    ]


def _width(side: Values) -> int:
    return 3 if side.spread is None else 4


def _packed(sides: Sequence[Values], size: int) -> tuple[Tensor, Tensor]:
    """All statistics as one vector, and all samples, padded with NaN, as one matrix."""
    if not sides:
        return torch.zeros(0, dtype=torch.float64), torch.full((0, size), torch.nan)

    device = sides[0].sample.device
    parts = [torch.zeros(0, dtype=torch.float64, device=device)]  # all become what this is
    samples = torch.full((len(sides), size), torch.nan, device=device)
    for row, side in zip(samples, sides, strict=True):
        stats = side.stats
        own = [stats.count.expand_as(stats.mean), stats.mean, stats.var]
        own += [] if side.spread is None else [side.spread]
        parts += own if stats.mean.device == device else [part.to(device) for part in own]
        row[: side.sample.numel()] = side.sample

    return torch.cat(parts).cpu(), samples.cpu()


def _unpacked(
    sides: Sequence[Values], vectors: Sequence[Tensor], samples: Sequence[Tensor]
) -> dict[int, Values]:
    """The id of each side → what all ranks have of it."""
    whole = torch.cat(list(samples), 1)
    united, at = {}, 0
    for side, sample in zip(sides, whole, strict=True):
        channels = side.stats.mean.numel()
        end = at + channels * _width(side)
        tables = [vector[at:end].view(-1, channels) for vector in vectors]
        united[id(side)] = _merged(tables, sample, side)
        at = end

    return united


def _merged(tables: Sequence[Tensor], sample: Tensor, own: Values) -> Values:
    stats = BatchStats.merge_all([BatchStats(t[0], t[1], t[2]) for t in tables])
    spread = None if own.spread is None else torch.stack([t[3] for t in tables]).sum(0)

    return Values(stats, spread, sample, None if own.rows is None else own.rows.cpu())
