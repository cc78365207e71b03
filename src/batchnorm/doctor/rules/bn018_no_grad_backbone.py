"""BN018: statistics move in a part that runs without gradients."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from ...stats._feed import eager
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import covering, is_updating, named, twins
from .._untouched import untouched

__all__ = ["NoGradBackbone"]


class NoGradBackbone(Rule):
    """A part of the model runs under `torch.no_grad()`, with batch norm in training mode.

    Checks: one batch through the model in training mode with gradients on; layers that are called
    while gradients are off, and update their statistics. A momentum teacher is no fault: a part
    that has a twin of the same class and parameters which runs with gradients (BYOL, MoCo, Mean
    Teacher). One finding per part of the model whose batch norms are all like that.

    Why it hurts: `no_grad` stops the weights, not the statistics. The part that was to stay as it
    is drifts with every batch, and in training it normalises by batches that it was not trained on.

    Example: `with torch.no_grad(): features = self.backbone(x)`, and `model.train()` before.

    Instead: `bn.freeze(model.backbone)`, which survives `model.train()`; or `self.backbone.eval()`
    in an overridden `train`.

    Is the fix safe: there is none here; see `live-statistics` for weights that are frozen.

    Source: pytorch issues 86590 and 10856.
    """

    code = "BN018"
    name = "no-grad-backbone"
    severity = "warning"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """Parts of the model without gradients."""
        heard = _heard(context)
        paths = [
            path
            for path, with_grad in heard.items()
            if not with_grad and not any(heard.get(twin) for twin in twins(context, path))
        ]
        for path, layers in covering(context, paths).items():
            yield self.finding(
                path,
                f"{named(len(layers), 'batch norm')} in training mode under torch.no_grad()",
                "Use batchnorm.freeze() on it",
                layers=layers,
            )


def _heard(context: Context) -> dict[str, bool]:
    """Path → whether gradients were on, of every layer that updates; empty if nothing trains."""
    found: dict[str, bool] = {}

    def hear(path: str, layer: Any) -> None:
        if layer.training and is_updating(layer):
            found[path] = found.get(path, False) or torch.is_grad_enabled()

    batch = context.batches[0]
    with (
        untouched(context.model, context.loader),
        eager(),
        torch.enable_grad(),
        ExitStack() as stack,
    ):
        if not context.model.training:
            context.model.train()
        for path, layer in context.layers.items():
            handle = layer.register_forward_pre_hook(lambda m, args, path=path: hear(path, m))
            stack.callback(handle.remove)
        args, kwargs = _pytree.tree_map_only(Tensor, torch.clone, (batch.args, batch.kwargs))
        try:
            output = context.model(*args, **kwargs)
        except Exception:  # other rules say why it does not run
            return {}
    leaves = _pytree.tree_leaves(output)

    return found if any(isinstance(x, Tensor) and x.requires_grad for x in leaves) else {}
