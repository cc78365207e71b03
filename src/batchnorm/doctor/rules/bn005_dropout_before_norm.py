"""BN005: dropout right before batch norm."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from ...surgery._graph import Call
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._walk import is_pointwise, is_shaping

__all__ = ["DropoutBeforeNorm"]

_KEEPS_MOMENTS = (nn.AlphaDropout, nn.FeatureAlphaDropout)
_NAMES = {"dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "native_dropout"}


class DropoutBeforeNorm(Rule):
    """Dropout feeds batch norm, with at most an activation in between.

    Checks: a dropout with p > 0 whose output batch norm normalises; in whatever mode the model is.
    Alpha dropout, which keeps mean and variance, does not count.

    Why it hurts: dropout makes the variance larger in training than at inference, by 1/(1 - p) for
    inputs with mean zero and by more for others. Batch norm stores the larger one and divides by
    it at inference, when dropout is off: outputs come out too small, and the next layers see values
    that they were not trained on.

    Example: `nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(64))`

    Instead: dropout behind the last batch norm of the network; or behind this one.

    Is the fix safe: there is none; the order is part of what was trained. `recalibrate` with
    dropout off repairs the statistics of a trained network.

    Source: Li et al. 2019 (arXiv:1801.05134), section 3.
    """

    code = "BN005"
    name = "dropout-before-norm"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Batch norms behind dropout."""
        graph = context.graph
        assert graph is not None
        for path, layer in context.layers.items():
            found = (_dropout(call) for call in graph.calls_of(layer))
            for drop, p in (pair for pair in found if pair is not None):
                where = "" if drop.module is None else f" {context.paths[drop.module]!r}"
                yield self.finding(
                    path,
                    f"dropout{where} with p={p:g} makes its variance {1 / (1 - p):.3g} times as "
                    "large in training as at inference, or more",
                    "Put dropout behind the last batch norm",
                    p=p,
                    ratio=1 / (1 - p),
                )
                break


def _dropout(call: Call) -> tuple[Call, float] | None:
    """The dropout that feeds a call, and its p."""
    source = call.first
    while source is not None:
        p = _p(source)
        if 0.0 < p < 1.0:
            return source, p
        if not (p == 0.0 or source.is_passing or is_pointwise(source) or is_shaping(source)):
            return None
        source = source.first

    return None


def _p(call: Call) -> float:
    """Of a dropout; -1 of anything else."""
    if isinstance(call.module, _DropoutNd):
        return -1.0 if isinstance(call.module, _KEEPS_MOMENTS) else float(call.module.p)
    if call.kind != "function" or call.target not in _NAMES:
        return -1.0
    p = call._option("p", 1)
    p = 0.5 if p is None else p

    return 0.0 if call._option("training", 2) is False else float(p)
