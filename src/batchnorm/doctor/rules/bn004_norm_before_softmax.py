"""BN004: batch norm of logits."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.loss import _Loss

from ...surgery._graph import Call, Graph
from .._context import Context
from .._finding import Finding
from .._layers import has_activation
from .._rule import Rule
from .._walk import behind, is_shaping

__all__ = ["NormBeforeSoftmax"]

_SOFTMAX = (nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)
_SOFTMAX_NAMES = {"softmax", "log_softmax", "softmin", "gumbel_softmax"}
_SQUASHING = (nn.Sigmoid, nn.Tanh, nn.LogSigmoid)
_SQUASHING_NAMES = {"sigmoid", "tanh", "logsigmoid"}
_LOSS_NAMES = {
    *("cross_entropy", "cross_entropy_loss", "nll_loss", "nll_loss_nd", "mse_loss", "l1_loss"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "smooth_l1_loss", "huber_loss"),
}


class NormBeforeSoftmax(Rule):
    """What batch norm gives goes straight into the last softmax, or into a loss.

    Checks: a batch norm whose output only a softmax, a log softmax or a loss inside the model
    reads, where nothing comes after the softmax but the output. A last sigmoid or tanh is *info*.

    Why it hurts: the logits of each class have the same mean and spread in every batch. A class
    cannot be rare, no prediction can be surer than the layer's weight allows, and it depends on
    the other examples of the batch. Generators with batch norm at their output were seen to
    oscillate.

    Example: `nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10), nn.Softmax(dim=1))`

    Instead: end with the linear layer, with its bias, and put batch norm before it.

    Is the fix safe: there is none; a network that is trained this way needs the layer.

    Source: Ioffe & Szegedy 2015, section 3.2 (arXiv:1502.03167); Radford et al. 2016, section 3
    (arXiv:1511.06434): no batch norm at the generator's output.
    """

    code = "BN004"
    name = "norm-before-softmax"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Batch norms of logits."""
        graph = context.graph
        assert graph is not None
        for path, layer in context.layers.items():
            if has_activation(layer) or graph.way == "parts":
                continue
            readers = (behind(graph, call, is_shaping) for call in graph.calls_of(layer))
            last = next((r for r in readers if r is not None and _is_end(graph, r)), None)
            if last is not None:
                squashes = isinstance(last.module, _SQUASHING) or last.target in _SQUASHING_NAMES
                what = last.target if last.module is None else type(last.module).__name__
                yield self.finding(
                    path,
                    f"the output of batch norm goes straight into the last {what}",
                    "End with the layer before it",
                    severity="info" if squashes else "warning",
                    reader=what,
                    channels=layer.num_features,
                )


def _is_end(graph: Graph, reader: Call) -> bool:
    if reader.kind == "output":
        return False
    if isinstance(reader.module, _Loss) or reader.target in _LOSS_NAMES:
        return True
    names = _SOFTMAX_NAMES | _SQUASHING_NAMES
    bounds = isinstance(reader.module, (*_SOFTMAX, *_SQUASHING)) or (
        reader.kind == "function" and reader.target in names
    )
    last = behind(graph, reader, is_shaping) if bounds else None

    return last is not None and last.kind == "output"
