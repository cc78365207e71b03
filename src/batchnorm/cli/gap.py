"""``batchnorm gap``."""

from pathlib import Path
from typing import Any

from .. import stats
from .._errors import explain
from ._atomic import replacing
from ._extras import missing_extra
from ._guard import guarded
from ._model import Named, make_loader, make_sample
from ._options import NO_REPORT, Report, Source
from ._work import Work, open_model

__all__ = ["gap"]

_WHO = "batchnorm gap"
_PICTURES = (".html", ".png", ".svg")


@guarded
def gap(
    *,
    source: Source,
    loader: str | None = None,
    sample: str | None = None,
    loss: str | None = None,
    plot: Path | None = None,
    output: Report = NO_REPORT,
) -> None:
    """Show how far running statistics are from a batch's, and what that does to the outputs.

    Args:
        source: Which model.
        loader: Function that makes batches (pkg.mod:name); the first one is used.
        sample: The batch instead: function (pkg.mod:name), or a shape.
        loss: Function of output and batch (pkg.mod:name): the loss in both modes.
        plot: File for a chart (.html, .png, .svg).
        output: Where the report goes.
    """
    if plot is not None:
        _check_plot(plot)
    if (loader is None) == (sample is None):
        rule, cure = "it needs one batch", "Pass either --loader or --sample"
        raise ValueError(explain(_WHO, rule, "two sources" if loader else "none", cure))
    given = {"loader": loader, "sample": sample, "loss": loss, "plot": plot}
    work = open_model(_WHO, source, output, given, [plot])
    measure = None if loss is None else Named(_WHO, "--loss", loss).function()

    report = stats.train_eval_gap(work.model, _batch(work, loader, sample), loss=measure)
    if plot is not None:
        with replacing(plot) as part:
            report.plot().save(str(part), **({"inline": True} if plot.suffix == ".html" else {}))
    work.finish(report, wrote=plot)


def _batch(work: Work, loader: str | None, sample: str | None) -> Any:
    if loader is None:
        return make_sample(_WHO, sample or "", work.model).value
    for batch in make_loader(_WHO, loader):
        return batch

    rule, cure = "the loader must have a batch", "See that its data is there"
    raise ValueError(explain(_WHO, rule, f"none from {loader!r}", cure))


def _check_plot(plot: Path) -> None:
    if plot.suffix not in _PICTURES:
        rule, cure = "a chart ends in its format", f"Use {', '.join(_PICTURES)}"
        raise ValueError(explain(_WHO, rule, f"'{plot}'", cure))
    if message := missing_extra("lab"):
        raise RuntimeError(message)
