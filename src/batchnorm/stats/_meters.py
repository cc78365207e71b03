"""Measuring a layer's population while batches pass through the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from .._types import BatchStats
from ._inputs import input_and_mask, measure
from ._layers import has_own_input, statistics_of, write_statistics
from ._population import Population
from ._reports import RecalibratedLayer
from ._restore import Saved, borrowed, hooked

__all__ = ["Meter", "Reached", "listening"]


class Reached(BaseException):
    """All that was wanted of this forward has been measured; no ``except Exception`` stops it."""


class Meter:
    """The population of one layer: ``local`` on this rank, ``population`` on all.

    Args:
        path: of the layer.
        layer: any batch norm with running statistics.
    """

    def __init__(self, path: str, layer: Any) -> None:
        self.path, self.layer = path, layer
        self.local = self.population = Population()
        self.saved = Saved([layer])
        self.old = statistics_of(layer)
        self.by_proposals = has_own_input(layer)

    def take(self, input: Tensor, mask: Tensor | None) -> None:
        """Measure one input."""
        self.local.update(measure(input, mask, f"recalibrate at {self.path!r}"))

    def drain(self, proposals: list[Any]) -> None:
        """Take what the layer has proposed."""
        for proposal in proposals:
            stats = self.layer._statistics(*proposal)
            shape = self.layer.running_mean.shape
            count = stats.count.expand(stats.mean.shape).reshape(shape)
            self.local.update(
                BatchStats(count, stats.mean.reshape(shape), stats.var.reshape(shape))
            )
        proposals.clear()

    def pack(self) -> Tensor:
        """What this rank has, as a vector."""
        return self.local.pack(self.layer.running_mean).reshape(-1)

    def unite(self, parts: Iterable[Tensor]) -> None:
        """Take what all ranks have, in their order."""
        self.population = Population()
        for part in parts:
            self.population.merge(Population.unpack(part, self.layer.running_mean))

    @torch.no_grad()
    def write(self) -> None:
        """Put the population into the layer."""
        self.saved.restore()
        stats = self.population.result()
        write_statistics(self.layer, stats.mean, stats.var_unbiased, where=stats.count > 1)

        buffers = self.layer._buffers
        batches, lost = self.population.batches, self.population.lost
        tracked, refused = buffers.get("num_batches_tracked"), buffers.get("num_nonfinite")
        if tracked is not None:
            every = (batches + lost).reshape(*tracked.shape, -1).amax(-1)
            # A domain or step that no batch had keeps what it knows.
            tracked.copy_(torch.where(every > 0, every, tracked))
        if refused is not None and refused.shape == lost.shape:
            refused.copy_(lost)
        if "_lost_parts" in buffers:
            buffers["_lost_parts"] = None

    def row(self, confidence: float) -> RecalibratedLayer:
        """New against old."""
        stats = self.population.result()
        taken = stats.count > 1
        mean, var = (old[taken] for old in self.old)
        new_mean, new_var = stats.mean[taken], stats.var_unbiased[taken]
        ratio = (new_var / var.clamp(min=torch.finfo(torch.float32).tiny)).tolist()
        widths = self.widths(confidence)

        return RecalibratedLayer(
            path=self.path,
            count=int(stats.count[taken].min()),
            batches=int(self.population.batches.max()),
            shift=float(((new_mean - mean).abs() / (var + self.layer.eps).sqrt()).max()),
            ratio=(min(ratio), max(ratio)),
            mean_width=float(widths[0][taken].max()),
            var_width=float(widths[1][taken].max()),
            kept=int((~taken).sum()),
            lost=int(self.population.lost.max()),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no channel has the two values that a variance needs."""
        batches = self.population.batches

        return batches.numel() == 0 or not bool((self.population.result().count > 1).any())

    def widths(self, confidence: float) -> tuple[Tensor, Tensor]:
        """Half widths in standard deviations and as a share of the variance."""
        interval, var = self.population.interval(confidence), self.population.result().var
        size = var + self.layer.eps

        return interval.mean / size.sqrt(), interval.var / size

    def is_within(self, tolerance: float, confidence: float) -> bool:
        """Whether every channel that has values is known so well; a layer without may be unused."""
        if self.population.batches.numel() == 0:
            return True

        seen = self.population.result().count > 0

        return all(bool((width[seen] <= tolerance).all()) for width in self.widths(confidence))


@contextmanager
def listening(
    meters: Iterable[Meter], masks: list[Tensor], early: bool
) -> Iterator[Callable[[], None]]:
    """Meters take what passes; call the function that this gives after every forward.

    Args:
        meters: of the layers.
        masks: the mask of the batch that is passing, or nothing; for calls without one.
        early: raise :class:`Reached` at the first call of a layer.
    """
    by_layer = {id(meter.layer): meter for meter in meters if not meter.by_proposals}
    proposers = [meter for meter in meters if meter.by_proposals]
    pending: list[list[Any]] = [[] for _ in proposers]

    def take(layer: Any, args: Any, kwargs: Any) -> None:
        input, mask = input_and_mask(layer, args, kwargs)
        if mask is None and masks:
            mask = masks[0]
        by_layer[id(layer)].take(input, mask)
        if early:
            raise Reached

    def after_forward() -> None:
        for meter, proposals in zip(proposers, pending, strict=True):
            meter.drain(proposals)

    inputs = [meter.layer for meter in by_layer.values()]
    with ExitStack() as stack:
        stack.enter_context(hooked(inputs, take))
        stack.enter_context(borrowed([m for m in inputs if hasattr(m, "_updates")], _updates=False))
        for meter, proposals in zip(proposers, pending, strict=True):
            stack.enter_context(borrowed([meter.layer], _pending=proposals))
        yield after_forward
