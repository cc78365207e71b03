"""Freeze statistics and parameters of batch norm, in a way that lasts, and thaw them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .._errors import explain
from ..layers._batchnorm import _BatchNorm
from ._affine import is_norm
from ._fold import check_rounding
from ._folding import FoldedBatchNorm
from ._hold import described, fold_all, hold, unfolding
from ._places import paths_of
from ._proof import compare, record
from ._report import Change, Proof, SurgeryReport
from ._swap import Surgery, refuse_wrapped
from ._trace import trace

__all__ = ["freeze", "thaw"]


@torch.inference_mode(False)  # parameters made in that mode could never be trained
def freeze(
    model: nn.Module,
    stats: bool = True,
    affine: bool = False,
    *,
    fold: bool = False,
    sample: Any = None,
) -> SurgeryReport:
    """Hold the statistics of every batch norm, its parameters, or both, until :func:`thaw`.

    With frozen statistics a layer normalises by its running statistics and never changes them,
    whatever ``model.train()`` says; its text shows it. Layers of torch and timm become ours with
    the same parameters, buffers and ``state_dict``, for theirs cannot do that.

    Args:
        model: is changed in place, and stays as it is when the call raises.
        stats: whether to hold the running statistics.
        affine: whether to hold weight and bias (``requires_grad=False``).
        fold: also let the convolution or linear layer before take the frozen batch norm into its
            weight at every call, where that is exact. Its output is then nobody's input but the
            activation's, so it is not kept for backward; gradients reach all parameters as before.
        sample: a tensor, a tuple of arguments or a dict of named ones. With it eval outputs
            before and after are compared, and more models can be understood for ``fold``.

    Returns:
        What was frozen, what was not, and why. ``undo()`` brings the former state back.

    Raises:
        ValueError: nothing is to be frozen, or the model has no batch norm; ``fold`` without
            ``stats``.
        RuntimeError: the outputs changed by more than rounding; ``affine`` in a model that
            DistributedDataParallel has wrapped.

    Costs: a frozen layer keeps for backward nothing (no activation, frozen weight), its output
        (relu and the like), or its input (weight with gradient); torch's keeps its input always.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), batchnorm.BatchNorm2d(4))
        >>> report = freeze(model, affine=True)
        >>> model.train()[1]
        BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, \
frozen=stats+weight+bias)
        >>> model[1].training
        False
    """
    _check(model, stats, affine, fold)
    if affine:
        refuse_wrapped("freeze", model)
    before = [] if sample is None else record(model, sample)
    undos: list[Callable[[], None]] = []
    try:
        surgery, changes = hold(model, stats, affine)
        undos.append(surgery.undo)
        if fold:
            graph = trace(surgery.model, sample)
            second, changes = fold_all(surgery.model, graph, changes)
            undos.append(second.undo)
        proofs: list[Proof] = []
        if sample is not None:
            proofs = compare(before, record(surgery.model, sample))
            check_rounding("freeze", [proof for proof in proofs if "outputs" in proof.what])
    except BaseException:
        _undo_all(undos)
        raise

    return SurgeryReport("freeze", surgery.model, changes, proofs, lambda: _undo_all(undos))


@torch.inference_mode(False)  # parameters made in that mode could never be trained
def thaw(model: nn.Module) -> SurgeryReport:
    """Take back what :func:`freeze` has frozen: statistics, parameters and folding.

    Layers follow the mode of the model again. Layers of torch stay ours; the report of ``freeze``
    can undo that too.

    Args:
        model: the model, or a part of it to thaw only that.

    Raises:
        ValueError: nothing is frozen.
        RuntimeError: parameters are, in a model that DistributedDataParallel has wrapped.

    Example:
        >>> layer = batchnorm.BatchNorm1d(3)
        >>> report = freeze(layer)
        >>> print(thaw(layer))
        thaw: 1 changed
        path  action   before        after  reason
        .     changed  frozen=stats
        no sample was given: nothing was compared
    """
    layers = {m: p for m, p in paths_of(model).items() if _frozen(m)}
    if not layers:
        raise ValueError(
            explain("thaw", "the model must have a frozen layer", "none", "Call freeze before")
        )

    if any(name != "stats" for layer in layers for name in _frozen(layer)):
        refuse_wrapped("thaw", model)
    surgery = Surgery("thaw", model)
    changes = []
    for layer, paths in layers.items():
        assert isinstance(layer, _BatchNorm)
        before = described(layer.frozen)
        if isinstance(layer, FoldedBatchNorm):
            surgery.call(*unfolding(layer, layer._layer[0]))
            before += ", folded"
        for name in set(layer.frozen) - {"stats"}:
            surgery.set_attribute(getattr(layer, name), "requires_grad", True)
        if "stats" in layer.frozen:
            surgery.set_attribute(layer, "training", model.training or layer.training)
        surgery.set_attribute(layer, "frozen", ())
        changes.append(Change(", ".join(paths), "changed", before))
    surgery.commit()

    return SurgeryReport("thaw", model, changes, (), surgery.undo)


def _frozen(module: nn.Module) -> tuple[str, ...]:
    return module.frozen if isinstance(module, _BatchNorm) else ()


def _undo_all(undos: list[Callable[[], None]]) -> None:
    while undos:
        undos.pop()()


def _check(model: nn.Module, stats: bool, affine: bool, fold: bool) -> None:
    if not (stats or affine):
        rule, got, cure = "something must be frozen", "stats=False, affine=False", "Set one of them"
    elif fold and not stats:
        rule, got, cure = "only frozen statistics can be folded", "stats=False", "Set stats=True"
    elif not any(map(is_norm, model.modules())):
        rule, got = "the model must have a batch norm", f"{type(model).__name__} without one"
        cure = "There is nothing to freeze"
    else:
        return

    raise ValueError(explain("freeze", rule, got, cure))
