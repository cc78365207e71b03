"""``batchnorm recalibrate``."""

from typing import Literal

from .. import stats
from ._guard import guarded
from ._model import make_loader
from ._options import NOWHERE, Output, Source
from ._recipe import loading_plainly
from ._work import open_model

__all__ = ["recalibrate"]

_WHO = "batchnorm recalibrate"


@guarded
def recalibrate(
    *,
    source: Source,
    loader: str,
    order: Literal["together", "layerwise"] = "together",
    max_batches: int | None = None,
    tolerance: float | None = None,
    confidence: float = 0.95,
    progress: bool | None = None,
    output: Output = NOWHERE,
) -> None:
    """Measure running statistics again, over a whole data set.

    Args:
        source: Which model.
        loader: Function that makes the batches: pkg.mod:name.
        order: All layers in one pass, or one pass per layer with the layers before it done.
        max_batches: Read so many in a pass; all by default.
        tolerance: Stop when means are known to so many standard deviations (variances: share).
        confidence: Of those intervals.
        progress: Show a bar; by default if someone looks.
        output: Where the results go.
    """
    given = {"loader": loader, "order": order, "max_batches": max_batches, "tolerance": tolerance}
    work = open_model(_WHO, source, output, {**given, "confidence": confidence})
    report = stats.recalibrate(
        work.model,
        make_loader(_WHO, loader),
        order=order,
        max_batches=max_batches,
        tolerance=tolerance,
        confidence=confidence,
        progress=progress,
    )
    work.finish(report, work.model, loading_plainly(source.model, output.out))
