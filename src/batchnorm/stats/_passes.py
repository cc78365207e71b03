"""Passes over the data while layers are measured, on one rank or on many in step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._feed import Forward, Track
from ._meters import Meter, Reached, listening
from ._ranks import Alone
from ._reports import Stopped
from ._restore import hooked, modes

__all__ = ["Mask", "Passes", "Use"]

Mask = Callable[[Any], Tensor]

# With a tolerance the intervals are looked at after so many batches, and at every doubling.
_FIRST_LOOK = 8


class Use(NamedTuple):
    """When in a forward a layer is called first (inf: never), and how often."""

    first: float
    times: int


@dataclass
class Passes:
    """How to pass over the data.

    Args:
        model: without wrappers.
        loader: of batches.
        forward: ``forward(model, batch)``.
        mask: of a batch, or None.
        move: puts a batch on the model's device.
        track: shows progress.
        team: ranks to agree with.
        limit: batches per pass, or None.
        tolerance: of the intervals, or None.
        confidence: of the intervals.
        batches: read so far, in all passes.
    """

    model: nn.Module
    loader: Iterable[Any]
    forward: Forward
    mask: Mask | None
    move: Callable[[Any], Any]
    track: Track
    team: Alone
    limit: int | None
    tolerance: float | None
    confidence: float
    batches: int = 0

    def measure(
        self, meters: list[Meter], early: bool = False, label: str = "", key: int = -1
    ) -> Stopped:
        """One pass: rounds of batches, after each of which all ranks look at what they have.

        Args:
            meters: of the layers that are measured in it.
            early: with one meter: end each forward where its layer begins.
            label: for the progress bar.
            key: what ranks must agree on.
        """
        taken = 0
        source = iter(self.track(self.loader, label))
        masks: list[Tensor] = []
        with listening(meters, masks, early) as after_forward:
            for look in self._looks():
                want = None if look is None else look - taken
                read = self._read(source, want, masks, after_forward)
                taken += read
                done = want is None or read < want or taken == self.limit
                done = self._agree(meters, done, key)
                if self.tolerance is not None and self._is_within(meters, self.tolerance):
                    return "interval"
                if done:
                    break

        return "budget" if taken == self.limit else "end of data"

    def _looks(self) -> Iterator[int | None]:
        """After how many batches the ranks exchange what they have; None: at the end of data."""
        look = _FIRST_LOOK
        while True:
            if self.tolerance is None:
                yield self.limit
            else:
                yield look if self.limit is None else min(look, self.limit)
            look *= 2

    def _read(
        self,
        source: Iterator[Any],
        want: int | None,
        masks: list[Tensor],
        after_forward: Callable[[], None],
    ) -> int:
        """Pass so many batches through the model; fewer if there are no more."""
        read = 0
        try:
            for batch in islice(source, want):
                moved = self.move(batch)
                masks[:] = [] if self.mask is None else [self.mask(moved)]
                self._forward(moved)
                after_forward()
                read += 1
        except Exception:
            self.team.fail()
            raise
        self.batches += read

        return read

    def _forward(self, batch: Any) -> None:
        with suppress(Reached):
            self.forward(self.model, batch)

    def _agree(self, meters: list[Meter], done: bool, key: int) -> bool:
        """Unite what the ranks have; whether all have read their data."""
        packed = [meter.pack() for meter in meters]
        parts, done = self.team.exchange(torch.cat(packed), done, key)
        sizes = [pack.numel() for pack in packed]
        by_rank = [part.split(sizes) for part in parts]
        for meter, own in zip(meters, zip(*by_rank, strict=True), strict=True):
            meter.unite(own)

        return done

    def _is_within(self, meters: list[Meter], tolerance: float) -> bool:
        return all(meter.is_within(tolerance, self.confidence) for meter in meters)

    def calls(self, meters: list[Meter]) -> list[Use]:
        """When in a forward each layer is called, and how often; by the first batch."""
        order: list[int] = []
        layers = [meter.layer for meter in meters]
        try:
            with modes(self.model, []), hooked(layers, lambda m, *_: order.append(id(m))):
                for batch in islice(iter(self.loader), 1):
                    self.forward(self.model, self.move(batch))
        except Exception:
            self.team.fail()
            raise

        firsts = {key: place for place, key in reversed(list(enumerate(order)))}

        return [Use(firsts.get(id(m), torch.inf), order.count(id(m))) for m in layers]
