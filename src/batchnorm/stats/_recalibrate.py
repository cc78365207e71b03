"""Running statistics measured again: the exact ones of a data set, for the weights of today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from .._errors import explain
from ._covariance_meter import CovarianceMeter
from ._feed import Forward, call, eager, mover, tracked
from ._layers import find_layers, innermost
from ._meters import Meter
from ._passes import Mask, Passes
from ._ranks import ranks
from ._reports import RecalibrationReport, Stopped
from ._restore import modes

__all__ = ["Order", "recalibrate"]

Order = Literal["together", "layerwise"]
"""``"together"``: one pass; every layer normalises each batch by itself, as in training.
``"layerwise"``: one pass per layer; the layers before it already use their new statistics, as
they will at inference."""


def recalibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    order: Order = "together",
    max_batches: int | None = None,
    tolerance: float | None = None,
    confidence: float = 0.95,
    forward: Forward = call,
    mask: Mask | None = None,
    device: Any = None,
    across_ranks: bool = True,
    process_group: Any = None,
    progress: bool | None = None,
) -> RecalibrationReport:
    """Replace running statistics by the mean and variance of the whole data set.

    Everything counts by its number of values, and the variance between batches is in it, so the
    result does not depend on how the data is cut into batches (except through ``"together"``'s
    normalisation). It is computed in float64 and written as torch keeps it: unbiased.

    For weights that were averaged (EMA, SWA), loaded into other data, or trained with momentum so
    small or so large that the moving average is not the population's.

    Args:
        model: with torch's layers, ours, or subclasses of either.
        loader: of batches; for ``"layerwise"`` it is iterated once per layer.
        order: all layers in one pass, or one pass per layer; see :data:`Order`.
        max_batches: of a pass and a rank; None: all.
        tolerance: stop a pass when every channel's mean is known to ± this many standard
            deviations, and its variance to ± this share; None: read everything.
        confidence: of those intervals.
        forward: ``forward(model, batch)``; by default a tensor is the input, of a tuple or list the
            first is, a dict holds keyword arguments.
        mask: bool ``(N,)`` or ``(N, *)`` of a batch, True = real, for layers that are called
            without one: the repeated examples of a padded last batch. Their forward is not masked.
        device: that batches are moved to; None: where the first layer is.
        across_ranks: measure the union of all ranks' data if ``torch.distributed`` is
            initialised. Every rank must call; they may have different numbers of batches.
        process_group: of those ranks; None: the default one.
        progress: show a bar; None: if rich is installed and stderr is a terminal.

    Returns:
        What changed, how well it is known, and what was left; ``.undo()`` goes back.

    Raises:
        ValueError: no layer to work on, or no batch reached one.
        TypeError: a batch that ``forward`` does not understand.
        RuntimeError: another rank failed.

    On every exit the modes, hooks and flags are as before; if it raises, so are all statistics.
    Modules that are no batch norm run in eval mode (no dropout), without gradients.

    Differs from torch: ``update_bn`` averages the batches' variances without weights, leaves out
        the variance between them, and switches dropout on.

    Source: Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3 (arXiv:2105.07576).

    Example:
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(1))
        >>> data = [torch.tensor([[1.0], [3.0]]), torch.tensor([[11.0], [13.0]])]
        >>> report = recalibrate(model, data)
        >>> model[0].running_mean, model[0].running_var
        (tensor([7.]), tensor([34.6667]))
    """
    _check(order, max_batches, tolerance, confidence, loader)
    inner = innermost(model)
    found = find_layers(inner, "recalibrate")
    meters = [_meter(path, layer) for path, layer in found.layers.items()]
    anchor = meters[0].layer.running_mean
    team = ranks("recalibrate", process_group, across_ranks, anchor.device)
    _check_mask(mask, meters)
    with tracked(progress, "recalibrate") as track, _undone_by_errors(meters):
        passes = Passes(
            inner, loader, forward, mask, mover(anchor, device), track, team,
            max_batches, tolerance, confidence,
        )  # fmt: skip
        with torch.no_grad(), eager():
            measure = _together if order == "together" else _layerwise
            stopped = measure(passes, meters)
        done = [meter for meter in meters if not meter.is_empty]
        _check_reached(done, passes.batches)

    left = found.left | {m.path: "saw no two values" for m in meters if m.is_empty}
    rows = tuple(meter.row(confidence) for meter in done)

    return RecalibrationReport(
        rows, left, passes.batches, stopped, confidence, lambda: _restore(meters)
    )


def _meter(path: str, layer: Any) -> Meter:
    kind = Meter if getattr(layer, "running_covariance", None) is None else CovarianceMeter

    return kind(path, layer)


def _together(passes: Passes, meters: list[Meter]) -> Stopped:
    """All layers in one pass."""
    with modes(passes.model, [meter.layer for meter in meters]):
        stopped = passes.measure(meters)
    _write(meters)

    return stopped


def _layerwise(passes: Passes, meters: list[Meter]) -> Stopped:
    """One pass per layer, in the order of the forward; a pass ends where the layer begins."""
    stopped: Stopped = "end of data"
    calls = passes.calls(meters)
    in_order = sorted(enumerate(meters), key=lambda pair: calls[pair[0]].first)
    for turn, (place, meter) in enumerate(in_order, start=1):
        early = calls[place].times == 1 and not meter.by_proposals
        with modes(passes.model, [] if early else [meter.layer]):
            stopped = passes.measure(
                [meter], early, f"{meter.path} ({turn} of {len(meters)})", key=place
            )
        _write([meter])

    return stopped


def _write(meters: list[Meter]) -> None:
    for meter in meters:
        if meter.is_empty:
            meter.saved.restore()
        else:
            meter.write()


def _restore(meters: list[Meter]) -> None:
    for meter in meters:
        meter.saved.restore()


@contextmanager
def _undone_by_errors(meters: list[Meter]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _restore(meters)
        raise


def _check_mask(mask: Any, meters: list[Meter]) -> None:
    deaf = [meter.path for meter in meters if meter.by_proposals]
    if mask is not None and deaf:
        raise ValueError(
            explain(
                "recalibrate",
                "mask= is for layers with input (N, C, *)",
                f"{', '.join(deaf)}",
                "Pass the mask to these layers in the model's forward",
            )
        )


def _check(
    order: Any,
    max_batches: int | None,
    tolerance: float | None,
    confidence: float,
    loader: Iterable[Any],
) -> None:
    who = "recalibrate"
    rules = (
        (order in get_args(Order), f"order must be one of {get_args(Order)}", f"order={order!r}"),
        (
            max_batches is None or max_batches > 0,
            "max_batches must be positive",
            f"max_batches={max_batches}",
        ),
        (
            tolerance is None or tolerance > 0,
            "tolerance must be positive",
            f"tolerance={tolerance}",
        ),
        (
            0 < confidence < 1,
            "confidence must be between 0 and 1",
            f"confidence={confidence}",
        ),
    )
    for holds, rule, got in rules:
        if not holds:
            raise ValueError(explain(who, rule, got, "Leave it out for the default"))
    if order == "layerwise" and iter(loader) is loader:
        raise ValueError(
            explain(
                who,
                "order='layerwise' reads the data once per layer",
                f"a {type(loader).__name__} that can be read once",
                "Pass a DataLoader or a list, or order='together'",
            )
        )


def _check_reached(done: list[Meter], batches: int) -> None:
    if not done:
        raise ValueError(
            explain(
                "recalibrate",
                "batches must reach a layer",
                f"{batches} batches, and no layer saw two values",
                "See that the loader is not empty and that forward calls the model",
            )
        )
