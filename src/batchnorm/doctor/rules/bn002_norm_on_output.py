"""BN002: batch norm is the last thing before the output."""

from collections.abc import Iterator

from torch import nn

from ...surgery._graph import Call, Graph
from .._context import Context
from .._finding import Finding
from .._layers import has_activation
from .._rule import Rule

__all__ = ["NormOnOutput"]

# Losses whose argument is the prediction itself, in the units of the target or as logits.
_PREDICTING = (
    nn.CrossEntropyLoss,
    nn.NLLLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.GaussianNLLLoss,
    nn.PoissonNLLLoss,
    nn.MultiMarginLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss,
)
_SHAPING = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous", "permute"}


class NormOnOutput(Rule):
    """The output of the model comes straight out of batch norm.

    Checks: an output that batch norm computes, with only reshaping in between. Without a loss
    function it is *info*, because embeddings are normalised on purpose; with a loss that compares
    the output with targets (`nn.CrossEntropyLoss`, `nn.MSELoss`, ...) it is a *warning*.

    Why it hurts: every prediction depends on the other examples of its batch, and in training each
    class or target has the same mean and spread in every batch, whatever the batch holds: a rare
    class cannot be rare, a regression cannot leave its usual range.

    Example: `nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10))`

    Instead: end with the linear layer, and put batch norm before it or before its activation.

    Is the fix safe: there is none; a network that is trained this way needs the layer.

    Source: Ioffe & Szegedy 2015, section 3.2: before the nonlinearity (arXiv:1502.03167).
    """

    code = "BN002"
    name = "norm-on-output"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Batch norm layers that only the output reads."""
        graph = context.graph
        assert graph is not None
        compares = isinstance(context.loss_fn, _PREDICTING)
        for path, layer in context.layers.items():
            if has_activation(layer):
                continue
            if any(_is_output(graph, call) for call in graph.calls_of(layer)):
                yield self.finding(
                    path,
                    "the model's output comes straight out of batch norm",
                    "End with the layer before it",
                    severity="warning" if compares else "info",
                    channels=layer.num_features,
                )


def _is_output(graph: Graph, call: Call) -> bool:
    reader = graph.reader(call)
    while reader is not None and reader.kind != "output" and _is_shaping(reader):
        reader = graph.reader(reader)

    return reader is not None and reader.kind == "output" and graph.way != "parts"


def _is_shaping(call: Call) -> bool:
    return isinstance(call.module, (nn.Flatten, nn.Unflatten)) or call.target in _SHAPING
