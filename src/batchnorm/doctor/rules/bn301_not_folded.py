"""BN301: batch norm that inference need not compute."""

from collections.abc import Iterator

from torch import nn

from ...surgery._affine import is_norm
from ...surgery._fold_plan import Plan, plan_fold
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import is_training, named

__all__ = ["NotFolded"]


class NotFolded(Rule):
    """A model for inference still computes batch norm that could be part of a weight.

    Checks: in a model in eval mode, without an optimizer: batch norms that `batchnorm.fold` would
    put into the convolution or linear layer next to them. One *info* for the model, which also says
    why the others cannot be folded.

    Why it hurts: each one that is left reads and writes its whole input. Exporters and compilers
    fold some of them, and not all formats: quantised and mobile ones want it done before.

    Example: `torch.onnx.export(resnet.eval(), ...)` for a mobile target.

    Instead: `batchnorm.fold(model.eval(), sample)`, on a copy if training goes on.

    Is the fix safe: none is made here: folding is exact for inference, and ends training. `fold`
    compares outputs before and after, and can be undone.

    Source: Jacob et al. 2018, section 3.2 (arXiv:1712.05877).
    """

    code = "BN301"
    name = "not-folded"
    severity = "info"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """At most one, for the whole model."""
        if is_training(context) or not any(map(is_norm, context.modules.values())):
            return
        plan = _plan(context)
        if plan.folded:
            total = len(plan.folded) + len(plan.skipped)
            yield self.finding(
                "",
                f"{len(plan.folded)} of {named(total, 'batch norm')} can be folded away",
                "batchnorm.fold(model) does that for inference",
                folded=[context.paths[layer] for layer in plan.folded],
                left={context.paths[layer]: why for layer, why in plan.skipped.items()},
            )


def _plan(context: Context) -> Plan:
    """What folding would do; the graph stays as it is for other rules."""
    graph = context.graph
    assert graph is not None
    through = set(graph.through)
    try:
        return plan_fold(context.model, graph, _dims(context))
    finally:
        graph.through = through


def _dims(context: Context) -> dict[nn.Module, int]:
    """Dimensions of what enters each layer, where it can be run."""
    heard = {} if context.live is None else context.live.eval.heard

    return {context.layers[path]: len(calls[0].shape) for path, calls in heard.items() if calls}
