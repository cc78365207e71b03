"""``batchnorm insert``."""

from typing import Literal

from .. import surgery
from ._arguments import Only, Options, choose, parse_options
from ._guard import guarded
from ._model import make_sample
from ._options import NOWHERE, Output, Source
from ._recipe import loading
from ._work import open_model

__all__ = ["insert"]

_WHO = "batchnorm insert"


@guarded
def insert(
    *,
    source: Source,
    where: Literal["before_activation", "after_activation", "input"] = "before_activation",
    start: Literal["standard", "identity"] = "standard",
    sample: str | None = None,
    only: Only = (),
    option: Options = (),
    output: Output = NOWHERE,
) -> None:
    """Put batch norm behind convolutions, linear and recurrent layers.

    Args:
        source: Which model.
        where: Right behind the layer, behind its activation, or before the first layer.
        start: Weight 1 and bias 0, or so that the outputs at inference stay the same.
        sample: Shape (2,3,32,32) or function (pkg.mod:name) of what goes through the model.
        only: Dotted paths of layers, as patterns (layer1.*); may be repeated.
        option: Constructor argument of the new layers (momentum=0.01); may be repeated.
        output: Where the results go.
    """
    options = parse_options(_WHO, option)
    given = {"where": where, "start": start, "sample": sample, "only": only, "option": option}
    work = open_model(_WHO, source, output, given)
    drawn = None if sample is None else make_sample(_WHO, sample, work.model)
    chosen, code = choose(only)

    report = surgery.insert(
        work.model,
        where,
        start=start,
        sample=None if drawn is None else drawn.value,
        only=chosen,
        **options,
    )
    call = {"where": repr(where)} | ({"start": repr(start)} if start != "standard" else {}) | code
    call |= {name: repr(value) for name, value in options.items()}
    load = loading(source.model, "insert", call, drawn, report.model, output.out)
    work.finish(report, report.model, load)
