"""BN209: averaged weights with the statistics of others."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers, is_averaged, is_fresh
from .bn104_running_far_from_batch import layers_apart, output_gap

__all__ = ["AveragedWeights"]


class AveragedWeights(Rule):
    """An average of models (EMA, SWA) whose running statistics do not belong to its weights.

    Checks: torch's `AveragedModel` and classes called `ModelEma`, `EMAModel` and the like, by the
    measure of BN104: certain and large. Statistics as they were made count too, if the average has
    begun. One finding, at the layer where it is largest.

    Why it hurts: activations of averaged weights are those of no network that was trained. Neither
    the last model's running statistics, which torch copies, nor an average of all fit them, and the
    average looks useless.

    Example: `AveragedModel(model)` evaluated without `update_bn`.

    Instead: `bn.recalibrate(averaged, loader)`. torch's `update_bn` averages the batches' variances
    and forgets the spread of their means.

    Is the fix safe: there is none here; recalibration needs the training's data.

    Source: Izmailov et al. 2018, section 3.2 (arXiv:1803.05407).
    """

    code = "BN209"
    name = "averaged-weights"
    severity = "warning"
    depth = "live"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The worst layer."""
        if not is_averaged(context):
            return
        sizes = {path: found.size for path, found in layers_apart(context).items()}
        if _has_begun(context):
            sizes |= {path: float("inf") for path, x in context.layers.items() if is_fresh(x)}
        if sizes:
            worst = max(sizes, key=lambda path: sizes[path])
            yield self.finding(
                worst,
                "the running statistics are not those of the averaged weights"
                f" {in_layers(context, list(sizes))}",
                "Recalibrate the averaged model",
                size=None if sizes[worst] == float("inf") else sizes[worst],
                output_gap=output_gap(context),
                layers=list(sizes),
            )


def _has_begun(context: Context) -> bool:
    counts = (getattr(module, "n_averaged", 0) for module in context.modules.values())

    return any(int(count) > 0 for count in counts)
