"""BN206: activation checkpointing updates the statistics twice."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from ...surgery import SurgeryReport, convert
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers
from .._untouched import untouched

__all__ = ["RecomputedTwice"]

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class RecomputedTwice(Rule):
    """A backward pass changes the running statistics.

    Checks: one forward and one backward of a copy of the model in training mode; a layer is named
    if its running statistics or its count change after the forward. One finding, at the first.

    Why it hurts: activation checkpointing computes the forward again, and torch's layer takes it
    for another batch: each counts twice, at momentum 0.1 with the weight of 0.19. Dropout or
    another random layer before it makes it another batch indeed.

    Example: `torch.utils.checkpoint.checkpoint(block, x)` with `nn.BatchNorm2d` in the block.

    Instead: layers of this package (`bn.convert(model)`), which see that it is a recomputation; or
    momentum 1 − √(1 − m).

    Is the fix safe: yes. `nn.BatchNorm1d`, `2d` and `3d` become this package's, with the same
    parameters and buffers; outputs and gradients stay what they were. Subclasses and torch's
    SyncBatchNorm are left alone. With `use_reentrant=True` the proof has to be left out.

    Source: pytorch/pytorch#96136 (open); Chen et al. 2016 (arXiv:1604.06174).
    """

    code = "BN206"
    name = "recomputed-twice"
    severity = "warning"
    depth = "live"
    fixable = True

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers that a backward pass updates."""
        paths = _updated_by_backward(context)
        if paths:
            yield self.finding(
                paths[0],
                f"the backward pass updates the running statistics {in_layers(context, paths)}",
                "Convert to layers that know recomputation",
                fixable=all(type(context.layers[path]) in _PLAIN for path in paths),
                layers=paths,
            )

    def fix(self, context: Context, finding: Finding) -> SurgeryReport:
        """Convert these layers."""
        paths = set(finding.measured["layers"])
        batch = context.batches[0]

        def exchange(sample: Any) -> SurgeryReport:
            return convert(
                context.model,
                optimizer=context.optimizer,
                sample=sample,
                only=lambda path, layer: path in paths,
            )

        try:
            return exchange(batch.args or batch.kwargs)
        except RuntimeError as error:
            # The older kind of checkpointing refuses torch.autograd.grad, and so the comparison.
            if "use_reentrant" not in str(error):
                raise
            return exchange(None)


def _updated_by_backward(context: Context) -> list[str]:
    # Gradients and hooks of parameters are the training's: a copy has neither.
    with untouched(context.model), torch.enable_grad(), catch_warnings():
        simplefilter("ignore")
        try:
            model = deepcopy(context.model).train()
            modules = dict(model.named_modules())
            layers = {path: modules[path] for path in context.layers}
            args, kwargs = _cloned(context.batches[0].args), _cloned(context.batches[0].kwargs)
            output = model(*args, **kwargs)
            before = {path: _memory(layer) for path, layer in layers.items()}
            _sum(output).backward()
        # A model that cannot be copied or trained on these batches cannot be asked.
        except Exception:
            return []

        return [path for path, layer in layers.items() if _differs(_memory(layer), before[path])]


def _cloned(arguments: Any) -> Any:
    return _pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), arguments)


def _memory(layer: nn.Module) -> list[Tensor]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    found = (getattr(layer, name, None) for name in names)

    return [tensor.clone() for tensor in found if tensor is not None]


def _differs(now: list[Tensor], before: list[Tensor]) -> bool:
    return any(not one.equal(other) for one, other in zip(now, before, strict=True))


def _sum(output: Any) -> Tensor:
    leaves = (leaf for leaf in _pytree.tree_leaves(output) if torch.is_tensor(leaf))

    return torch.stack([leaf.float().sum() for leaf in leaves if leaf.requires_grad]).sum()
