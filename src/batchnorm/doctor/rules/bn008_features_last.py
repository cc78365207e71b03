"""BN008: features in the last axis, normalised along the second."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from ...stats._layers import has_own_input
from ...surgery._graph import Call
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._walk import before, is_dropout, is_pointwise

__all__ = ["FeaturesLast"]

_LAST = (
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.MultiheadAttention),
    *(nn.TransformerEncoder, nn.TransformerEncoderLayer),
)
_PASSING = {"getitem", "add", "mul"}


class FeaturesLast(Rule):
    """``BatchNorm1d`` reads ``(N, L, C)``, as linear layers give it, as ``(N, C, L)``.

    Checks: a three-dimensional input whose last axis has as many values as the layer has channels,
    from a linear layer, an embedding, a layer norm, attention, or a recurrent layer with
    `batch_first=True`, with only activations, dropout, sums or products in between.

    Why it hurts: where L is not C the call raises. Where it is, nothing is said, and every position
    gets a mean and variance of its own over all features: those of one word, not of one feature.

    Example: `nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16))` on `(8, 16, 4)`

    Instead: `batchnorm.SequenceBatchNorm(16, channel_axis=-1)`, which also takes lengths; or
    `norm(x.transpose(1, 2)).transpose(1, 2)`.

    Is the fix safe: there is none; a trained layer has learnt the wrong axis.

    Source: pytorch issue 76613.
    """

    code = "BN008"
    name = "features-last"
    severity = "error"
    depth = "trace"
    needs = ("sample",)

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers that are fed the wrong way round."""
        graph, live = context.graph, context.live
        assert graph is not None
        for path, layer in context.layers.items():
            if live is None or _has_own_input(layer):
                continue
            shapes = [heard.shape for heard in live.eval.heard[path]]
            shape = next((s for s in shapes if len(s) == 3), None)
            if shape is None or shape[2] != layer.num_features:
                continue
            sources = (before(call, _is_passing) for call in graph.calls_of(layer))
            source = next((s for s in sources if s is not None and _is_last(s)), None)
            if source is not None:
                yield self.finding(
                    path,
                    f"{source.target!r} gives features in the last axis of {shape}, and they are "
                    "normalised along the second",
                    f"Use SequenceBatchNorm({layer.num_features}, channel_axis=-1)",
                    shape=list(shape),
                    source=source.target,
                )


def _is_passing(call: Call) -> bool:
    named = call.kind == "function" and call.target in _PASSING

    return named or is_dropout(call) or is_pointwise(call)


def _is_last(call: Call) -> bool:
    module: Any = call.module

    return isinstance(module, _LAST) or (isinstance(module, nn.RNNBase) and module.batch_first)


def _has_own_input(layer: Any) -> bool:
    return layer.running_mean is not None and has_own_input(layer)
