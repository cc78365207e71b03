"""BN011: batch norm where gradients are wanted per example."""

from collections.abc import Iterator
from typing import Any

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import modes_in_training

__all__ = ["PerSampleGradients"]

_PACKAGES = {"opacus", "fastDP", "private_transformers", "backpack"}
# What Opacus, BackPACK and fastDP hang on a parameter.
_TENSORS = ("grad_sample", "grad_batch", "private_grad")


class PerSampleGradients(Rule):
    """A model with batch norm in training mode is trained with gradients of single examples.

    Checks: a module or optimizer of Opacus, fastDP or BackPACK, or parameters that carry their
    gradients per example (`grad_sample`, `grad_batch`, `private_grad`), together with a batch norm
    that normalises by the batch in training.

    Why it hurts: with batch statistics an example's loss depends on all others, so there is no
    gradient of one example. Clipping it bounds nothing: the privacy that is accounted for is not
    there.

    Example: `opacus.GradSampleModule(torchvision.models.resnet18())`

    Instead: `bn.freeze(model)`, if the statistics come from public data; or group norm:
    `bn.convert(model, to=lambda old: nn.GroupNorm(math.gcd(32, old.num_features),
    old.num_features))`.

    Is the fix safe: there is none; both ways change what the network computes.

    Source: Yousefpour et al. 2021 (arXiv:2109.12298); Opacus refuses batch norm.
    """

    code = "BN011"
    name = "per-sample-gradients"
    severity = "error"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Every batch norm that couples examples."""
        sign = _sign(context)
        if not sign:
            return
        for path, is_on in modes_in_training(context).items():
            if is_on:
                yield self.finding(
                    path,
                    f"batch statistics couple the examples, and {sign} takes gradients of each",
                    "Freeze its statistics, or use group norm",
                    sign=sign,
                )


def _sign(context: Context) -> str:
    """What says that gradients are per example; empty if nothing does."""
    things: list[Any] = [*context.modules.values(), *_not_none(context.optimizer)]
    for thing in things:
        for cls in type(thing).__mro__:
            if cls.__module__.split(".")[0] in _PACKAGES:
                return f"{cls.__module__.split('.')[0]}'s {cls.__name__}"
    for parameter in context.model.parameters():
        name = next((n for n in _TENSORS if getattr(parameter, n, None) is not None), "")
        if name:
            return f"a parameter with .{name}"

    return ""


def _not_none(value: Any) -> list[Any]:
    return [] if value is None else [value]
