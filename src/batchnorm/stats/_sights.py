"""What enters a layer, cut as its memory is: by domain, by step, or whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ..layers._batchnorm import _BatchNorm
from ..layers._domain import _DomainBatchNorm
from ..layers._sequence import SequenceBatchNorm, mask_of_lengths
from ..layers.recurrent._norm import RecurrentBatchNorm
from ..ops import broadcast_mask, choose_lane
from ._inputs import input_and_mask
from ._restore import borrowed, hooked

__all__ = ["Sight", "is_whitened", "sighted", "why_no_sight"]

_FORWARDS = (
    _BatchNorm.forward,
    _DomainBatchNorm.forward,
    SequenceBatchNorm.forward,
    RecurrentBatchNorm.forward,
)


class Sight(NamedTuple):
    """A part of what a call gives to a layer.

    Args:
        row: of the layer's memory; None: there is one for all.
        input: ``(N, C, *)``.
        mask: bool ``(N,)`` or ``(N, *)``, or None.
    """

    row: int | None
    input: Tensor
    mask: Tensor | None

    @property
    def examples(self) -> int:
        """Those with a real position."""
        return (
            len(self.input)
            if self.mask is None
            else int(self.mask.reshape(len(self.mask), -1).any(1).sum())
        )

    def values(self) -> Tensor:
        """All real values, float64 ``(values, C)``."""
        rows = self.input.detach().double().movedim(1, -1)
        if self.mask is None:
            return rows.flatten(0, -2)

        real = broadcast_mask("batchnorm.stats", self.mask, self.input)

        return rows[real.reshape(rows.shape[:-1])]


def why_no_sight(layer: Any) -> str:
    """Why nobody can tell what a batch means to this layer; empty if one can."""
    if isinstance(layer, _BatchNorm) and type(layer).forward not in _FORWARDS:
        return f"{type(layer).__name__} has a forward of its own"

    return ""


def is_whitened(layer: Any) -> bool:
    """Whether the layer remembers covariances."""
    return getattr(layer, "running_covariance", None) is not None


@contextmanager
def sighted(layers: Iterable[nn.Module], take: Callable[[Any, Sight], None]) -> Iterator[None]:
    """Before each call of a layer ``take(layer, sight)``, for every part of its input."""
    layers = list(layers)
    by_step = [layer for layer in layers if isinstance(layer, RecurrentBatchNorm)]

    def listen(layer: Any, step: int, input: Tensor, mask: Tensor | None) -> None:
        if step < layer.max_length:
            take(layer, Sight(step, input, mask))

    def hook(layer: Any, args: Any, kwargs: Any) -> None:
        for sight in _cut(layer, args, kwargs):
            take(layer, sight)

    with ExitStack() as stack:
        stack.enter_context(borrowed(by_step, _listener=listen))
        others = (layer for layer in layers if not isinstance(layer, RecurrentBatchNorm))
        stack.enter_context(hooked(others, hook))
        yield


def _cut(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[Sight]:
    if not isinstance(layer, SequenceBatchNorm | _DomainBatchNorm):
        return [Sight(None, *input_and_mask(layer, args, kwargs))]

    given = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
    if isinstance(layer, SequenceBatchNorm):
        return [_of_sequences(layer, given)]

    return _of_domains(layer, given)


def _of_sequences(layer: SequenceBatchNorm, given: dict[str, Any]) -> Sight:
    input, mask, lengths = given["input"], given.get("mask"), given.get("lengths")
    last = layer.channel_axis != 1
    if isinstance(input, PackedSequence):
        input, lengths = pad_packed_sequence(input, batch_first=True)
        last = True
    if last and input.dim() == 3:
        input = input.transpose(1, 2)
    if lengths is not None:
        who = type(layer).__name__
        mask = mask_of_lengths(who, lengths, len(input), input.shape[2], input.device)

    return Sight(None, input, mask)


def _of_domains(layer: _DomainBatchNorm, given: dict[str, Any]) -> Iterator[Sight]:
    input, mask, domain = given["input"], given.get("mask"), given.get("domain")
    labels = layer._labels(choose_lane(input), layer._domain if domain is None else domain, input)
    if not isinstance(labels, Tensor):
        if labels >= 0:
            yield Sight(labels, input, mask)
        return

    for label in labels.unique().tolist():
        if label >= 0:  # -1 is not known, and has no memory
            at = labels == label
            yield Sight(label, input[at], None if mask is None else mask[at])
