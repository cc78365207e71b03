"""Batch norm put into a model that has none, or too little of it."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim import Optimizer

from .._errors import explain
from ._graph import Graph
from ._insert_norm import Seen, Start, begin, norm_for, observe, small_eps
from ._insert_plan import LAYERS, Site, channels_of, find_sites, first_layer
from ._normalised import Normalised, NormalisedInput, NormalisedSequence
from ._places import HELD, Places, kind, paths_of
from ._prove import commit_and_prove
from ._report import Change, SurgeryReport
from ._swap import Surgery
from ._trace import trace

__all__ = ["insert"]

_WHO = "insert"
Where = Literal["before_activation", "after_activation", "input"]


@torch.inference_mode(False)  # parameters made in that mode could never be trained
def insert(
    model: nn.Module,
    where: Where = "before_activation",
    *,
    sample: Any = None,
    optimizer: Optimizer | None = None,
    start: Start = "standard",
    only: Callable[[str, nn.Module], bool] | None = None,
    **options: Any,
) -> SurgeryReport:
    """Put batch norm behind convolutions, linear and recurrent layers, in place.

    Never behind an output layer, a layer that is normalised already, or one that is called more
    than once. Where batch norm follows at once, the layer's bias is dropped: batch norm subtracts
    it again. Its value moves into the running mean. The layer and its norm take the layer's place
    together (``Normalised``); its keys gain ``layer.``, and older checkpoints still load.

    Args:
        model: any module that torch.fx can trace, or that runs the sample.
        where: ``"before_activation"``: right behind the layer (Ioffe & Szegedy 2015);
            ``"after_activation"``: behind the activation module that follows;
            ``"input"``: before the first layer, to bring raw features to one scale.
        sample: a tensor, a tuple of arguments or a dict of keyword arguments. Needed for models
            that torch.fx cannot trace and for linear layers over sequences.
        optimizer: new parameters join the group of the layer's bias (or weight).
        start: ``"standard"``: weight 1, bias 0, as for training from scratch. ``"identity"``:
            weight = sqrt(var + eps), bias = mean, so that the function at inference is unchanged;
            mean and var are the sample's (0 and 1 without one).
        only: takes a dotted path and a layer; False leaves it.
        options: constructor arguments of the new layers: ``momentum=0.01``. At the input,
            ``affine`` is False by default, and ``eps`` small against the sample's variances.

    Returns:
        Each decision with its reason; can be undone.

    Raises:
        ValueError: no such layer, an unknown option, or a model that cannot be traced.
        RuntimeError: ``start="identity"`` changed the function. The model is then as it was.

    Example:
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> report = insert(model)
        >>> [(change.path, change.action, change.reason) for change in report.changes]
        [('0', 'added', 'before ReLU; its bias moved'), \
('2', 'skipped', 'it is an output layer: its values leave the model')]
    """
    _check("where", where, get_args(Where))
    _check("start", start, get_args(Start))
    found = {m: p for m, p in paths_of(model).items() if isinstance(m, LAYERS)}
    if not found:
        rule = "the model must have convolutions, linear or recurrent layers"
        got = f"{type(model).__name__} without any"
        raise ValueError(explain(_WHO, rule, got, "Put batch norm where the model is built"))

    graph = _traced(model, sample)
    chosen = [m for m, paths in found.items() if only is None or any(only(p, m) for p in paths)]
    if where == "input":
        return _insert_input(model, graph, found, sample, optimizer, start, options)

    sites, reasons = find_sites(graph, chosen, where == "after_activation")
    seen = observe(model, [site.behind for site in sites.values()], sample)
    surgery, places = Surgery(_WHO, model, optimizer), Places(model)
    changes = []
    for layer, paths in found.items():
        change = Change(", ".join(paths), "skipped", kind(layer), reason="not chosen by only")
        if layer in reasons:
            change = Change(change.path, "skipped", kind(layer), reason=reasons[layer])
        elif layer in sites:
            change = _put(surgery, places, sites[layer], change.path, seen, start, options)
        changes.append(change)

    same = start == "identity"
    proofs = commit_and_prove(surgery, sample, ("eval",), same=same, gradients=same, rounds=True)
    return SurgeryReport(_WHO, surgery.model, changes, proofs, surgery.undo)


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        rule = f"{name} must be one of {known}"
        raise ValueError(explain(_WHO, rule, f"{name}={value!r}", "Use one"))


def _traced(model: nn.Module, sample: Any) -> Graph:
    try:
        return trace(model, sample, ways=("fx", "run"))
    except ValueError as error:
        rule, cure = "it must be seen what feeds what", "Pass sample=, to watch it run"
        raise ValueError(explain(_WHO, rule, str(error), cure)) from None


def _put(
    surgery: Surgery,
    places: Places,
    site: Site,
    path: str,
    seen: Seen,
    start: Start,
    options: dict[str, Any],
) -> Change:
    layer = site.layer
    rank, stats = seen.get(site.behind, (None, None))
    fixed = places.fixed(site.behind)
    try:
        if fixed is not None:
            raise ValueError(f"{fixed} {HELD}")
        norm = norm_for(layer, channels_of(layer), rank, options)
    except ValueError as error:
        return Change(path, "skipped", kind(layer), reason=str(error))

    directly = site.behind is layer and not isinstance(layer, nn.RNNBase)
    bias = layer._parameters.get("bias") if directly and norm.affine else None
    begin(norm, stats, bias, start)
    wrap = NormalisedSequence if isinstance(layer, nn.RNNBase) else Normalised
    new = wrap(site.behind, norm)
    new.training = norm.training = site.behind.training
    beside = layer._parameters.get("bias")
    surgery.replace(site.behind, new, beside=next(layer.parameters()) if beside is None else beside)
    if bias is not None:
        surgery.set_parameter(layer, "bias", None)

    reason = site.reason + ("; its bias moved" if bias is not None else "")
    return Change(path, "added", kind(layer), kind(norm), reason)


def _insert_input(
    model: nn.Module,
    graph: Graph,
    found: dict[nn.Module, list[str]],
    sample: Any,
    optimizer: Optimizer | None,
    start: Start,
    options: dict[str, Any],
) -> SurgeryReport:
    layer = first_layer(graph)
    if isinstance(layer, str):
        cure = "Put it in front yourself: nn.Sequential(batchnorm.BatchNorm1d(features), model)"
        raise ValueError(explain(_WHO, "one layer must read the input", layer, cure))

    seen = observe(model, [layer], sample, inputs=True)
    rank, stats = seen.get(layer, (None, None))
    defaults: dict[str, Any] = {"affine": start == "identity"}
    if stats is not None:
        defaults["eps"] = small_eps(stats)
    norm = norm_for(layer, channels_of(layer, into=True), rank, {**defaults, **options})
    begin(norm, stats, None, start)
    new = NormalisedInput(layer, norm)
    new.training = norm.training = layer.training
    surgery = Surgery(_WHO, model, optimizer)
    surgery.replace(layer, new, beside=layer._parameters.get("bias"))

    change = Change(", ".join(found[layer]), "added", kind(layer), kind(norm), "before its input")
    same = start == "identity"
    proofs = commit_and_prove(surgery, sample, ("eval",), same=same, gradients=same, rounds=True)
    return SurgeryReport(_WHO, surgery.model, [change], proofs, surgery.undo)
