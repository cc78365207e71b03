"""BN205: statistics are updated several times per step of the optimizer."""

from collections.abc import Iterator
from typing import Any

import torch

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers, updates

__all__ = ["MoreUpdatesThanSteps"]

_LEAST = 100
_MOST = 64


class MoreUpdatesThanSteps(Rule):
    """A layer has counted k batches for every step of the optimizer.

    Checks: `num_batches_tracked` against the optimizer's own count of steps (Adam's family has
    one), after 100 steps or more. Only an exact multiple counts, from 2 to 64 (beyond the steps
    fewer than one more k): a count from an earlier training would hit one by chance once in 100
    times. A layer that the model calls several times may count that often.

    Why it hurts: mostly it is gradient accumulation. The statistics are those of micro-batches, k
    times as noisy as those of the batch that is meant, and the running average forgets k times as
    fast. It can also be recomputation by activation checkpointing (see BN206) or evaluation in
    training mode.

    Example: `loss.backward()` four times, then `optimizer.step()`.

    Instead: `with bn.accumulate(model):` around the micro-batches of a step; one update, weighed by
    count.

    Is the fix safe: there is none; the loop is yours.

    Source: pytorch/pytorch#46516 (open).
    """

    code = "BN205"
    name = "more-updates-than-steps"
    severity = "info"
    depth = "tree"
    needs = ("optimizer",)

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with one multiple, together."""
        steps = _steps(context)
        if steps < _LEAST:
            return
        found: dict[int, list[str]] = {}
        for path, layer in context.layers.items():
            count, over = divmod(updates(layer), steps)
            calls = len(context.graph.calls_of(layer)) if context.graph else 1
            if 2 <= count <= _MOST and over < count and count > max(calls, 1):
                found.setdefault(count, []).append(path)
        for count, paths in found.items():
            yield self.finding(
                paths[0],
                f"{count} updates of the statistics per step of the optimizer"
                f" {in_layers(context, paths)}",
                "If gradients are accumulated, use bn.accumulate",
                updates=updates(context.layers[paths[0]]),
                steps=steps,
                per_step=count,
                layers=paths,
            )


def _steps(context: Context) -> int:
    """Of the optimizer, for this model's parameters; 0 if it does not count."""
    states: Any = [] if context.optimizer is None else context.optimizer.state
    own = [states[p].get("step", 0) for p in context.model.parameters() if p in states]
    counts = [int(step) for step in own if not (torch.is_tensor(step) and step.numel() != 1)]

    return max(counts, default=0)
