"""``batchnorm fold``."""

from pathlib import Path

from .. import surgery
from .._errors import explain
from ._guard import guarded
from ._model import make_sample
from ._onnx import check_onnx, write_onnx
from ._options import NOWHERE, Output, Source
from ._recipe import loading
from ._work import open_model

__all__ = ["fold"]

_WHO = "batchnorm fold"


@guarded
def fold(
    *, source: Source, sample: str | None = None, onnx: Path | None = None, output: Output = NOWHERE
) -> None:
    """Put batch norms into the layers next to them, for inference.

    Args:
        source: Which model.
        sample: Shape (2,3,32,32) or function (pkg.mod:name) of what goes through the model; with it
            the outputs before and after are compared.
        onnx: File to export the folded model to.
        output: Where the results go.
    """
    if onnx is not None:
        check_onnx(_WHO)
        if sample is None:
            rule, cure = "--onnx needs a sample to trace", "Pass --sample 1,3,32,32"
            raise ValueError(explain(_WHO, rule, "none", cure))
    work = open_model(_WHO, source, output, {"sample": sample, "onnx": onnx}, [onnx])
    given = None if sample is None else make_sample(_WHO, sample, work.model)

    report = surgery.fold(work.model, None if given is None else given.value)
    if onnx is not None and given is not None:
        write_onnx(report.model, given.value, onnx)
    load = loading(source.model, "fold", {}, given, report.model, output.out)
    work.finish(report, report.model, load, onnx)
