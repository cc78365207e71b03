"""``batchnorm prune-report``."""

from .. import surgery
from ._guard import guarded
from ._options import NO_REPORT, Report, Source
from ._work import open_model

__all__ = ["prune_report"]


@guarded
def prune_report(
    *,
    source: Source,
    threshold: float = 1e-2,
    fraction: float | None = None,
    output: Report = NO_REPORT,
) -> None:
    """List the channels whose weight is about zero; nothing is removed.

    Args:
        source: Which model.
        threshold: Weights up to this are small.
        fraction: The smallest weights of the whole model, from 0 to 1, instead.
        output: Where the report goes.
    """
    given = {"threshold": threshold} if fraction is None else {"fraction": fraction}
    work = open_model("batchnorm prune-report", source, output, given)
    work.finish(surgery.prune_report(work.model, threshold, fraction=fraction))
