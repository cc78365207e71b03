"""BN210: padding enters the statistics."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...stats._inputs import input_and_mask
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import HARMLESS, in_layers

__all__ = ["PaddingWithoutMask"]


class PaddingWithoutMask(Rule):
    """Sequences end in padding, and the layer is not told.

    Checks: what enters a layer as `(N, C, L)` without a mask. Padding is a tail of positions that
    are equal in every channel to the last bit, the same vector in all sequences that have one, of
    different lengths. *Warning* if it moves x̂ by more than 0.25 standard deviations, else *info*.
    One finding, at the worst layer.

    Why it hurts: the mean is drawn towards the padding and the variance shrinks, more in a batch
    with one long sequence than in another, so that a sequence's output depends on how long its
    neighbours are; at inference nothing of that holds.

    Example: `pad_sequence` to the longest, then `nn.BatchNorm1d`.

    Instead: `layer(x, mask=mask)` with `bn.BatchNorm1d`, or `bn.SequenceBatchNorm` with
    `lengths=`; batches of similar length.

    Is the fix safe: there is none; only your code knows the lengths.

    Source: pytorch/pytorch#70529 (open), #81985; Laurent et al. 2016 (arXiv:1510.01378).
    """

    code = "BN210"
    name = "padding-without-mask"
    severity = "warning"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """The layer that it moves most."""
        assert context.live is not None
        found: dict[str, _Padding] = {}
        heard = context.live.norms.heard
        watched = {
            p: x for p, x in context.layers.items() if any(len(h.shape) == 3 for h in heard[p])
        }

        def visit(path: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            input, mask = input_and_mask(layer, args, kwargs)
            fits = input.dim() == 3 and input.shape[1] == layer.num_features and len(input) > 1
            if mask is not None or "lengths" in kwargs or not fits:
                return
            padding = _padding(input.detach().double())
            if padding is not None and (path not in found or padding.size > found[path].size):
                found[path] = padding

        if watched:
            context.live.listen("norms", watched, visit)
        if found:
            worst = max(found, key=lambda path: found[path].size)
            size, share = found[worst].size, found[worst].share
            yield self.finding(
                worst,
                f"{share:.0%} of the positions are padding, which moves x̂ by {size:.2g} standard"
                f" deviations; so {in_layers(context, list(found))}",
                "Pass mask=, or use SequenceBatchNorm with lengths=",
                severity="warning" if size > HARMLESS else "info",
                share=share,
                size=size,
                layers=list(found),
            )


@dataclass(frozen=True)
class _Padding:
    share: float
    size: float


def _padding(x: Tensor) -> _Padding | None:
    same = (x == x[:, :, -1:]).all(1)
    # Positions from the end on that are equal; one is equal to itself.
    tail = same.flip(1).long().cumprod(1).sum(1)
    tail = torch.where(tail > 1, tail, 0)
    padded = x[tail > 0, :, -1]
    if x.shape[1] < 2 or len(padded) < 2 or int(tail.min()) == int(tail.max()):
        return None
    if not padded.isfinite().all() or not (padded == padded[0]).all():
        return None

    length = x.shape[2]
    real = torch.arange(length, device=x.device) < (length - tail)[:, None]
    values = x.transpose(0, 1)[:, real]
    if values.shape[1] < 2:
        return None
    mean, std = values.mean(1), values.std(1).clamp(min=1e-30)
    shift = (x.mean((0, 2)) - mean) / std
    scale = x.transpose(0, 1).flatten(1).std(1) / std
    size = (shift.square() + (scale - 1).square()).median().sqrt()

    return _Padding(float(tail.sum()) / real.numel(), float(size))
