"""BN113: an epoch is too short for the momentum."""

from collections.abc import Iterator

from .._batch_sizes import length
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers

__all__ = ["SlowMomentum"]

_LEFT = 0.05


class SlowMomentum(Rule):
    """After one epoch the initial statistics still weigh more than 5 %.

    Checks: (1 − momentum)ⁿ > 0.05 with n batches in the loader; by then the variance is off by as
    much as one batch of 800 values, √(2/800), would have it. One finding, at the first layer.

    Why it hurts: the evaluation after the first epochs is far worse than the network, which looks
    like overfitting or a fault in the code, and early stopping or a learning rate schedule that
    listens to it goes wrong.

    Example: `momentum=0.01` and 100 batches: 37 % are left.

    Instead: a larger momentum, `momentum=None` for short trainings, or `bn.recalibrate` before each
    evaluation.

    Is the fix safe: there is none; a small momentum is right for long epochs.

    Source: pytorch/pytorch#4741; keras#7265.
    """

    code = "BN113"
    name = "slow-momentum"
    severity = "info"
    depth = "tree"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The slowest layers."""
        batches = length(context.loader)
        if not batches:
            return
        slow = {
            path: (1 - layer.momentum) ** batches
            for path, layer in context.layers.items()
            if layer.momentum is not None and layer.track_running_stats
            if 0 < layer.momentum < 1 and (1 - layer.momentum) ** batches > _LEFT
        }
        if slow:
            first = next(iter(slow))
            yield self.finding(
                first,
                f"an epoch of {batches} batches leaves {slow[first]:.0%} of the initial statistics"
                f" {in_layers(context, list(slow))}",
                "Raise the momentum, or recalibrate before evaluating",
                batches=batches,
                remaining=slow[first],
                layers=list(slow),
            )
