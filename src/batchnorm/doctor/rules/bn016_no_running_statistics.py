"""BN016: nothing to normalise by at inference but the batch."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import covering, is_training, named

__all__ = ["NoRunningStatistics"]


class NoRunningStatistics(Rule):
    """A batch norm has no running statistics, so that inference normalises by the batch.

    Checks: layers with `track_running_stats=False`. A *warning* in a model that is there for
    inference (in eval mode, without an optimizer), *info* while it is trained. One finding per part
    of the model whose batch norms are all like that.

    Why it hurts: the answer for one example depends on the others that happen to be in its batch,
    a single example in `(N, C)` fails, and nothing can be folded or exported as a fixed function.

    Example: `nn.BatchNorm2d(16, track_running_stats=False)` in a served model.

    Instead: `track_running_stats=True`. For a model that is trained already: build it so, load its
    weights with `strict=False`, and `bn.recalibrate(model, loader)`. Where batch statistics are
    meant (transductive few-shot learning, style), say so: `layer.batchnorm_ignore = {"BN016"}`.

    Is the fix safe: there is none without training data.

    Source: pytorch issues 4741 and 5406.
    """

    code = "BN016"
    name = "no-running-statistics"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Parts of the model without statistics."""
        paths = [path for path, layer in context.layers.items() if layer.running_mean is None]
        for path, layers in covering(context, paths).items():
            yield self.finding(
                path,
                f"{named(len(layers), 'batch norm')} without running statistics: inference "
                "normalises by the batch",
                "Use track_running_stats=True",
                severity="info" if is_training(context) else "warning",
                layers=layers,
            )
