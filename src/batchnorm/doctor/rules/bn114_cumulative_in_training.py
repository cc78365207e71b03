"""BN114: an average over the whole training."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers

__all__ = ["CumulativeInTraining"]


class CumulativeInTraining(Rule):
    """`momentum=None` while the weights train.

    Checks: layers with `momentum=None` in training mode, if an optimizer is passed that trains the
    model. One finding, at the first layer.

    Why it hurts: every batch since the beginning has the same weight, so that after a long training
    most of the average comes from weights that are long gone. It is the right thing where weights
    stand still: recalibration.

    Example: `nn.BatchNorm2d(64, momentum=None)` through 100 epochs.

    Instead: `momentum=0.1`, and `bn.recalibrate(model, loader)` at the end if the average shall be
    exact.

    Is the fix safe: there is none; the layer's statistics would have to be collected anew.

    Source: Wu & Johnson 2021, section 3.1 (arXiv:2105.07576).
    """

    code = "BN114"
    name = "cumulative-in-training"
    severity = "info"
    depth = "tree"
    needs = ("optimizer",)

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers that average everything."""
        if not any(parameter in context.groups for parameter in context.model.parameters()):
            return
        paths = [
            path
            for path, layer in context.layers.items()
            if layer.momentum is None and layer.track_running_stats and layer.training
        ]
        if paths:
            yield self.finding(
                paths[0],
                f"momentum=None {in_layers(context, paths)} averages the statistics of weights"
                " that are long gone",
                "Use momentum=0.1 in training, and recalibrate at its end",
                layers=paths,
            )
