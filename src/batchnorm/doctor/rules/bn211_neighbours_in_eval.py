"""BN211: in eval mode an example's output depends on the rest of its batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from .._context import Context
from .._finding import Finding
from .._live import Batch
from .._rule import Rule

__all__ = ["NeighboursInEval"]


class NeighboursInEval(Rule):
    """After `model.eval()` the same example gives another output among other examples.

    Checks: the first half of a batch alone, and with the second half, in eval mode. More than
    rounding (√ of the dtype's) is an *error*, if batch norm can be the cause: a layer that is still
    in training mode after `model.eval()`, one without running statistics, or a call of
    `F.batch_norm`. The path is that layer.

    Why it hurts: predictions change with the batch, cannot be reproduced one at a time, and leak
    between users of one server.

    Example: `F.batch_norm(x, mean, var, training=True)` in a `forward`; a `train()` that keeps
    batch norm in training mode.

    Instead: `training=self.training`; running statistics; `bn.recalibrate` if they are missing.

    Is the fix safe: there is none; the mode is set by your code.

    Source: Ioffe & Szegedy 2015, section 3.1 (arXiv:1502.03167); pytorch/pytorch#5406.
    """

    code = "BN211"
    name = "neighbours-in-eval"
    severity = "error"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """The layer that looks at the batch."""
        suspects = _suspects(context)
        if not suspects:
            return
        change = _change(context)
        if change is not None:
            yield self.finding(
                suspects[0],
                f"in eval mode outputs change by {change:.1%} when other examples are in the batch",
                "Use running statistics in eval mode",
                change=change,
                layers=suspects,
            )


def _suspects(context: Context) -> list[str]:
    """Layers that use the batch in eval mode; "" for a function that may."""
    assert context.live is not None
    found: dict[str, None] = {}

    def visit(path: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        if layer.training or layer.running_mean is None:
            found[path] = None

    context.live.listen("eval", context.layers, visit)
    if found or context.graph is None:
        return list(found)

    return [""] if any("batch_norm" in call.target for call in context.graph.calls) else []


def _change(context: Context) -> float | None:
    """By how much an output changes, of its spread; None if not by more than rounding."""
    assert context.live is not None
    batch = next((batch for batch in context.batches if batch.size >= 4), None)
    if batch is None:
        return None
    half = batch.size // 2
    args, kwargs = _first(batch.args, batch.size, half), _first(batch.kwargs, batch.size, half)
    try:
        alone, among = context.live.outputs("eval", [Batch(args, kwargs, None), batch])
    # Not every model takes half a batch.
    except Exception:
        return None
    worst = 0.0
    for one, many in zip(_floats(alone), _floats(among), strict=False):
        if one.dim() and many.dim() and len(one) == half and len(many) == batch.size:
            worst = max(worst, _apart(one, many[:half]))

    return worst or None


def _apart(one: Tensor, many: Tensor) -> float:
    if one.shape != many.shape or not one.numel():
        return 0.0
    limit = torch.finfo(one.dtype).eps ** 0.5
    spread = (many.double() - many.double().mean(0)).square().mean().sqrt()
    scale = max(float(spread), float(many.double().abs().max()) * limit, 1e-30)
    change = float((one.double() - many.double()).square().mean().sqrt()) / scale

    return change if change > limit else 0.0


def _first(arguments: Any, size: int, half: int) -> Any:
    def cut(tensor: Tensor) -> Tensor:
        return tensor[:half] if tensor.dim() and len(tensor) == size else tensor

    return _pytree.tree_map_only(Tensor, cut, arguments)


def _floats(output: Any) -> list[Tensor]:
    leaves = _pytree.tree_leaves(output)

    return [x.detach() for x in leaves if torch.is_tensor(x) and x.is_floating_point()]
