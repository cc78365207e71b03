"""``batchnorm convert``."""

from .. import surgery
from ._arguments import Only, Options, choose, parse_options
from ._guard import guarded
from ._model import make_sample
from ._options import NOWHERE, Output, Source
from ._recipe import loading
from ._work import open_model

__all__ = ["convert"]

_WHO = "batchnorm convert"


@guarded
def convert(
    *,
    source: Source,
    to: str = "BatchNorm",
    sample: str | None = None,
    fuse: bool = False,
    only: Only = (),
    option: Options = (),
    output: Output = NOWHERE,
) -> None:
    """Exchange batch norm layers for layers of another kind.

    Args:
        source: Which model.
        to: BatchNorm, GhostBatchNorm, ... (ours), torch.BatchNorm, GroupNorm, ...
        sample: Shape (2,3,32,32) or function (pkg.mod:name) of what goes through the model; with it
            outputs and gradients before and after are compared.
        fuse: Also take the activations and additions that follow into the layers.
        only: Dotted paths of layers, as patterns (layer1.*); may be repeated.
        option: Constructor argument of the new layers (ghost_batch_size=32); may be repeated.
        output: Where the results go.
    """
    options = parse_options(_WHO, option)
    given = {"to": to, "sample": sample, "fuse": fuse, "only": only, "option": option}
    work = open_model(_WHO, source, output, given)
    drawn = None if sample is None else make_sample(_WHO, sample, work.model)
    chosen, code = choose(only)

    report = surgery.convert(
        work.model,
        to,
        sample=None if drawn is None else drawn.value,
        fuse=fuse,
        only=chosen,
        **options,
    )
    call = {"to": repr(to)} | ({"fuse": "True"} if fuse else {}) | code
    call |= {name: repr(value) for name, value in options.items()}
    load = loading(source.model, "convert", call, drawn, report.model, output.out)
    work.finish(report, report.model, load)
