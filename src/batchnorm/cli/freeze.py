"""``batchnorm freeze``."""

from .. import surgery
from ._guard import guarded
from ._model import make_sample
from ._options import NO_REPORT, Report, Source
from ._recipe import arguments
from ._work import open_model

__all__ = ["freeze"]

_WHO = "batchnorm freeze"


@guarded
def freeze(
    *,
    source: Source,
    stats: bool = True,
    affine: bool = False,
    fold: bool = False,
    sample: str | None = None,
    output: Report = NO_REPORT,
) -> None:
    """Show what freezing would hold, layer by layer; weights do not change, so none are written.

    Args:
        source: Which model.
        stats: Hold the running statistics.
        affine: Hold weights and biases.
        fold: Let convolutions and linear layers take frozen layers into their weight at each call.
        sample: Shape (2,3,32,32) or function (pkg.mod:name) of what goes through the model; with it
            outputs before and after are compared.
        output: Where the report goes.
    """
    given = {"stats": stats, "affine": affine, "fold": fold, "sample": sample}
    work = open_model(_WHO, source, output, given)
    drawn = None if sample is None else make_sample(_WHO, sample, work.model)
    value = None if drawn is None else drawn.value

    report = surgery.freeze(work.model, stats, affine, fold=fold, sample=value)
    call = {"stats": "False"} if not stats else {}
    call |= {name: "True" for name, on in (("affine", affine), ("fold", fold)) if on}
    work.finish(report)
    print(f"in a training script: bn.freeze({arguments(call)})")
