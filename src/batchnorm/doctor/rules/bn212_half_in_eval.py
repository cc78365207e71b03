"""BN212: the model is in eval mode, and batch norm is not."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers

__all__ = ["HalfInEval"]


class HalfInEval(Rule):
    """A layer is in training mode inside a model that is in eval mode.

    Checks: the mode of every batch norm layer, if the model is in eval mode. One finding, at the
    first.

    Why it hurts: the layer normalises by the batch and updates its statistics while one evaluates,
    so that the validation data ends in the network. It happens when the layer is not called through
    the model that `eval()` was called on, or when somebody wanted test-time adaptation and forgot.

    Example: `model.eval(); model.layer.train()`

    Instead: `model.eval()` last; for adaptation `bn.adapt(model, loader)`, after which
    eval mode is right.

    Is the fix safe: there is none; it may be on purpose.

    Source: pytorch/pytorch#4741; Schneider et al. 2020 (arXiv:2006.16971) for the purpose.
    """

    code = "BN212"
    name = "half-in-eval"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """All such layers together."""
        if context.model.training:
            return
        paths = [path for path, layer in context.layers.items() if layer.training]
        if paths:
            yield self.finding(
                paths[0],
                f"training mode {in_layers(context, paths)} of a model that is in eval mode",
                "Call model.eval() last, or bn.adapt for adaptation",
                layers=paths,
            )
