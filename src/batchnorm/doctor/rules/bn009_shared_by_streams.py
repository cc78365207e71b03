"""BN009: one batch norm for streams of different distributions."""

from collections.abc import Iterator
from itertools import combinations
from math import exp
from typing import Any

import torch

from ...stats._layers import has_own_input
from ...stats._population import Population
from .._context import Context
from .._finding import Finding
from .._live import Heard
from .._rule import Rule

__all__ = ["SharedByStreams"]

# Chance of a finding in a layer whose streams do not differ.
_ALPHA = 0.01
# Cohen's medium effect, in standard deviations; and the same as a factor of the deviation.
_SHIFT = 0.5
_SCALE = 1.5
# With fewer draws a standard error is itself uncertain by more than 1/√(2·7), a quarter.
_DRAWS = 8


class SharedByStreams(Rule):
    """A batch norm is called several times per forward, on inputs of different distributions.

    Checks: a layer with running statistics that is called more than once. With examples, the
    streams are compared: mean or variance of a channel differ with 99 % confidence (Student's
    intervals with every example as one draw, corrected for the number of channels and pairs), and
    the root mean square over channels of a stream's distance from the pooled statistics is above
    half a standard deviation, or a factor of 1.5 in scale. Streams that do not differ, as in a
    siamese network, are no fault. With fewer than 8 examples it is *info*.

    Why it hurts: in training each call is normalised by its own stream. The running statistics are
    an average over streams that fits none of them, so at inference every stream is shifted and
    scaled otherwise than in training.

    Example: a detection head with batch norm that runs on every level of a feature pyramid; a
    discriminator that sees real and generated images in separate calls.

    Instead: one batch norm per stream: `batchnorm.DomainBatchNorm2d` with the stream's number, or
    a list of layers; recurrent networks: `batchnorm.RecurrentBatchNorm`. Or put all streams in one
    batch.

    Is the fix safe: there is none; statistics per stream must be collected in training.

    Source: Wu & Johnson 2021, section 5 (arXiv:2105.07576); Cohen 1988, section 2.2, for the size.
    """

    code = "BN009"
    name = "shared-by-streams"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with streams that differ, or might."""
        graph = context.graph
        assert graph is not None
        for path, layer in context.layers.items():
            calls = graph.calls_of(layer)
            if len({call.first for call in calls}) < 2 or not _remembers(layer):
                continue
            streams = _streams(context, path)
            if streams is None:
                yield self.finding(
                    path,
                    f"{len(calls)} calls per forward share its running statistics",
                    f"Pass a sample of {_DRAWS} examples, to see whether their inputs differ",
                    severity="info",
                    calls=len(calls),
                )
                continue
            shift, scale = _distance(streams)
            if (shift > _SHIFT or scale > _SCALE) and _differ(streams):
                yield self.finding(
                    path,
                    f"{len(streams)} calls per forward share its running statistics, and a stream "
                    f"is {shift:.2g} standard deviations and a factor of {scale:.2g} from them",
                    "Use one batch norm per stream",
                    calls=len(streams),
                    shift=shift,
                    scale=scale,
                )


def _remembers(layer: Any) -> bool:
    plain = layer.running_mean is not None and not has_own_input(layer)

    return plain and "stats" not in getattr(layer, "frozen", ())


def _streams(context: Context, path: str) -> list[Population] | None:
    """What each call of a forward saw in all batches; None if that cannot be told."""
    if context.live is None:
        return None
    run = context.live.norms
    batches: dict[int, list[Heard]] = {}
    for heard in run.heard[path]:
        batches.setdefault(heard.batch, []).append(heard)
    if run.error is not None or len({len(calls) for calls in batches.values()}) != 1:
        return None
    streams: list[Population] = []
    for calls in zip(*batches.values(), strict=True):
        whole = Population()
        for heard in calls:
            if heard.draws is None:
                return None
            whole.merge(heard.draws)
        if int(whole.batches.min()) < _DRAWS:
            return None
        streams.append(whole)

    return streams if len(streams) > 1 else None


def _distance(streams: list[Population]) -> tuple[float, float]:
    """Of the farthest stream from all: in standard deviations, and as a factor."""
    all_streams = Population()
    for stream in streams:
        all_streams.merge(stream)
    pooled = all_streams.result()
    alive = pooled.var > 0
    if not bool(alive.any()):
        return 0.0, 1.0
    shifts, scales = [], []
    for one in (stream.result() for stream in streams):
        shift = (one.mean - pooled.mean)[alive] / pooled.var[alive].sqrt()
        ratio = (one.var[alive] / pooled.var[alive]).clamp(min=torch.finfo(torch.float64).tiny)
        shifts.append(float(shift.square().mean().sqrt()))
        scales.append(float((ratio.log() / 2).square().mean().sqrt()))

    return max(shifts), exp(max(scales))


def _differ(streams: list[Population]) -> bool:
    pairs = len(streams) * (len(streams) - 1) / 2
    channels = len(streams[0].result().mean)
    # Two numbers per channel.
    confidence = 1 - _ALPHA / (2 * channels * pairs)
    known = [(stream.result(), stream.interval(confidence)) for stream in streams]

    return any(
        bool(((a.mean - b.mean).abs() > ia.mean + ib.mean).any())
        or bool(((a.var - b.var).abs() > ia.var + ib.var).any())
        for (a, ia), (b, ib) in combinations(known, 2)
    )
