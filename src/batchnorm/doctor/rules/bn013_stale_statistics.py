"""BN013: weights move under statistics that do not."""

from collections.abc import Iterator
from typing import Any

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import covering, is_training, learns, modes_in_training, named
from .._walk import upstream

__all__ = ["StaleStatistics"]


class StaleStatistics(Rule):
    """Statistics are frozen, and weights before them are trained.

    Checks: a batch norm with running statistics that stays in eval mode while the model trains
    (frozen, or its `train` is overridden, or `.eval()` was called on it), behind parameters that
    are trained. *Info*: with a small learning rate this is how detectors are fine-tuned. A
    *warning* if the statistics are those of a new layer, 0 and 1, so that it normalises nothing.
    One finding per part of the model whose batch norms are all like that.

    Why it hurts: the weights move, and the statistics go on describing the old ones. Nothing keeps
    activations at mean 0 and variance 1 any more.

    Example: `bn.freeze(model)` before training from random weights.

    Instead: freeze late, as the last epochs of a training; or `bn.recalibrate` afterwards.

    Is the fix safe: there is none; frozen statistics are a decision.

    Source: Wu & Johnson 2021, section 3 (arXiv:2105.07576); He et al. 2016, appendix A
    (arXiv:1512.03385) fine-tune detectors with fixed statistics.
    """

    code = "BN013"
    name = "stale-statistics"
    severity = "info"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Parts of the model whose statistics stay behind."""
        if not is_training(context):
            return
        still = [
            path
            for path, on in modes_in_training(context).items()
            if not on
            and context.layers[path].running_mean is not None
            and any(learns(context, p) for p in upstream(context, path))
        ]
        empty = [path for path in still if _is_new(context.layers[path])]
        for path, layers in covering(context, empty).items():
            yield self.finding(
                path,
                f"{named(len(layers), 'batch norm')} with frozen statistics that are still 0 and 1",
                "Train or recalibrate before freezing",
                severity="warning",
                layers=layers,
            )
        for path, layers in covering(context, [p for p in still if p not in empty]).items():
            yield self.finding(
                path,
                f"weights are trained before {named(len(layers), 'batch norm')} with frozen "
                "statistics",
                "Freeze late, or recalibrate afterwards",
                layers=layers,
            )


def _is_new(layer: Any) -> bool:
    mean, var = layer.running_mean, layer.running_var

    return not bool(mean.any()) and bool((var == 1).all())
