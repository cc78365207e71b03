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
        vector, samples = _packed(heard, self.share)
        if self.size > 1:
            if not self._agree(heard, failed):
                return None
            vectors, sampled = self._gather(vector), self._gather(samples)
        elif failed:
            return None
        else:
            vectors, sampled = [vector], [samples]

        return _united(heard, vectors, sampled)

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


def _sides(heard: Heard) -> list[Values]:
    return [side for side in (heard.input, heard.output) if side is not None]


def _layout(heard: Heard) -> list[int]:
    own = [side.stats.mean.numel() * (3 if side.spread is None else 4) for side in _sides(heard)]

    return [heard.input is None, heard.output is None, *own]


def _packed(heard: Sequence[Heard], size: int) -> tuple[Tensor, Tensor]:
    """All statistics as one vector, and all samples, padded with NaN, as one matrix."""
    parts: list[Tensor] = []
    samples = torch.full((0, size), torch.nan)
    sides = [side for h in heard for side in _sides(h)]
    for side in sides:
        stats = side.stats
        parts += [stats.count.expand_as(stats.mean), stats.mean, stats.var]
        parts += [] if side.spread is None else [side.spread]
    if sides:
        device = sides[0].sample.device
        samples = torch.full((len(sides), size), torch.nan, device=device)
        for row, side in zip(samples, sides, strict=True):
            row[: side.sample.numel()] = side.sample
        parts = [part.to(device, torch.float64) for part in parts]

    vector = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    return vector.cpu(), samples.cpu()


def _united(heard: Sequence[Heard], vectors: list[Tensor], sampled: list[Tensor]) -> list[Heard]:
    whole = torch.cat(sampled, 1)
    at = row = 0
    for one in heard:
        sides: list[Values | None] = []
        for side in (one.input, one.output):
            if side is None:
                sides.append(None)
                continue
            channels, width = side.stats.mean.numel(), 3 if side.spread is None else 4
            tables = [v[at : at + channels * width].view(width, channels) for v in vectors]
            sides.append(_merged(tables, whole[row], side))
            at, row = at + channels * width, row + 1
        one.input, one.output = sides

    return list(heard)


def _merged(tables: list[Tensor], sample: Tensor, own: Values) -> Values:
    stats = BatchStats.merge_all([BatchStats(t[0], t[1], t[2]) for t in tables])
    spread = torch.stack([t[3] for t in tables]).sum(0) if own.spread is not None else None

    return Values(stats, spread, sample, None if own.rows is None else own.rows.cpu())
