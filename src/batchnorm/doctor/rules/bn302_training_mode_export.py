"""BN302: a model for inference in which batch norm is in training mode."""

import inspect
from collections.abc import Iterator
from typing import Any

from torch import fx

from ...surgery import Change, SurgeryReport
from ...surgery._graph import name_of
from ...surgery._swap import Surgery
from .._context import Context
from .._finding import Finding
from .._operate import operate
from .._rule import Rule
from .._training import covering, is_training, named

__all__ = ["TrainingModeExport"]


class TrainingModeExport(Rule):
    """What is exported or served normalises by the batch, and learns from it.

    Checks: (1) programs of `torch.export` and `torch.fx` inside the model that call batch norm in
    training mode, or write to its running statistics: the mode was baked in when they were made,
    and `eval()` cannot change it; (2) batch norms with running statistics that are in training mode
    in a model that is in eval mode, without an optimizer.

    Why it hurts: an answer depends on the other examples of its batch, a batch of one fails, and
    every request moves the statistics. Other exporters do the reverse, and write inference batch
    norm for a model in training mode without a word: then the file and the model disagree.

    Example: `torch.export.export(model, (x,))` without `model.eval()` before.

    Instead: `model.eval()` before the export; `bn.fold` or `bn.freeze` before that leave no mode to
    forget. Where the statistics are meant to adapt at inference: `bn.adapt`.

    Is the fix safe: yes for (2), which is `eval()` on these layers. There is none for (1): export
    again.

    Source: pytorch issues 75252 and 151726; onnxscript issue 1791.
    """

    code = "BN302"
    name = "training-mode-export"
    severity = "warning"
    depth = "tree"
    fixable = True

    def check(self, context: Context) -> Iterator[Finding]:
        """Baked in calls, then parts of the model in the wrong mode."""
        for path, module in context.modules.items():
            if isinstance(module, fx.GraphModule):
                for inner in _baked_in(module):
                    yield self.finding(
                        f"{path}.{inner}".strip("."),
                        "an exported program calls this batch norm in training mode",
                        "Export again after model.eval()",
                        fixable=False,
                        program=path,
                    )
        if is_training(context):
            return
        paths = [
            path
            for path, layer in context.layers.items()
            if layer.training and layer.running_mean is not None
        ]
        for path, layers in covering(context, paths).items():
            yield self.finding(
                path,
                f"{named(len(layers), 'batch norm')} in training mode in a model in eval mode",
                "Call model.eval() before export",
                layers=layers,
            )

    def fix(self, context: Context, finding: Finding) -> SurgeryReport:
        """Put them into eval mode."""

        def plan(surgery: Surgery) -> None:
            for path in finding.measured["layers"]:
                surgery.set_attribute(context.layers[path], "training", False)

        return operate(
            context, Change(finding.path, "changed", "training", "eval", finding.code), plan
        )


def _baked_in(program: fx.GraphModule) -> list[str]:
    """Paths in a program of the batch norms that it calls in training mode."""
    found: dict[str, None] = {}
    for node in program.graph.nodes:
        path, _, name = str(node.target).rpartition(".")
        is_mean = node.op == "get_attr" and name == "running_mean"
        if is_mean and any(_trains(reader, node) for reader in node.users):
            found[path] = None

    return list(found)


def _trains(reader: fx.Node, mean: fx.Node) -> bool:
    """Whether a call writes to the running mean, or is batch norm in training mode."""
    if reader.op not in ("call_function", "call_method"):
        return False
    _, inplace = name_of(reader.target)

    return (inplace and reader.args[:1] == (mean,)) or _option(reader, "training") is True


def _option(node: fx.Node, name: str) -> Any:
    """The value of an argument, by its name in the function's signature."""
    if name in node.kwargs:
        return node.kwargs[name]
    schema: Any = getattr(node.target, "_schema", None)
    try:
        names = [a.name for a in schema.arguments] if schema else _names(node.target)
    except (TypeError, ValueError):  # a builtin without a signature
        return None

    return dict(zip(names, node.args, strict=False)).get(name)


def _names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)
