"""Whole layers to and from other frameworks, by the table of conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from .. import layers
from .._errors import explain
from ._conventions import CONVENTIONS, Framework, convert_options, convert_state
from ._sources import read

__all__ = ["ForeignNorm", "from_framework", "to_framework"]


class ForeignNorm(NamedTuple):
    """A batch norm layer as another framework describes it.

    Args:
        options: constructor arguments (attributes, for onnx).
        state: tensors by the framework's names.
    """

    options: dict[str, Any]
    state: dict[str, Any]


def to_framework(layer: nn.Module, target: Framework, count: int | None = None) -> ForeignNorm:
    """A batch norm layer's options and tensors as another framework writes them.

    Args:
        layer: torch's or ours.
        target: ``"keras"``, ``"flax"`` or ``"onnx"``.
        count: see ``convert_state``.

    Raises:
        ValueError: the layer does something that the framework's does not.

    Example:
        >>> layer = batchnorm.BatchNorm2d(3, eps=1e-3, momentum=0.25)
        >>> to_framework(layer, "keras").options
        {'momentum': 0.75, 'epsilon': 0.001, 'scale': True, 'center': True}
    """
    source = read(layer)
    if isinstance(source, str):
        raise ValueError(_refusal("to_framework", source))
    if source.activation != "identity":
        raise ValueError(_refusal("to_framework", f"activation={source.activation!r}"))
    norm = source.layer
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(_refusal("to_framework", "no running statistics"))

    options = convert_options({"momentum": norm.momentum, "eps": norm.eps}, "torch", target)
    for name in ("weight", "bias"):
        word = CONVENTIONS[target].options.get(name)
        if word is not None:
            options[word] = getattr(norm, name) is not None
    state = {name: t.detach().clone() for name, t in norm.state_dict().items()}
    if target == "onnx":  # whose operator has no optional inputs
        state.setdefault("weight", torch.ones_like(norm.running_mean))
        state.setdefault("bias", torch.zeros_like(norm.running_mean))

    return ForeignNorm(options, convert_state(state, "torch", target, count))


def from_framework(
    options: Mapping[str, Any],
    state: Mapping[str, Any],
    source: Framework,
    rank: int,
    count: int | None = None,
) -> nn.Module:
    """A batch norm layer of ours from another framework's options and tensors.

    A layer with β but without γ gets a γ of ones that does not train.

    Args:
        options: constructor arguments; those that are missing are the framework's defaults.
        state: tensors by the framework's names.
        source: ``"keras"``, ``"flax"`` or ``"onnx"``.
        rank: 1, 2 or 3: a ``BatchNorm1d``, ``2d`` or ``3d``.
        count: see ``convert_state``.

    Raises:
        ValueError: the tensors are not the framework's, or another rank.

    Example:
        >>> state = {"moving_mean": [1.0, 2.0], "moving_variance": [4.0, 9.0]}
        >>> from_framework({}, state, "keras", rank=2)
        BatchNorm2d(2, eps=0.001, momentum=0.01, affine=False, bias=False, \
track_running_stats=True)
    """
    if rank not in (1, 2, 3):
        rule = "rank must be 1, 2 or 3"
        raise ValueError(explain("from_framework", rule, f"rank={rank!r}", "Use one"))
    tensors = convert_state(state, source, "torch", count)
    missing = {"running_mean", "running_var"} - set(tensors)
    if missing:
        wanted = ", ".join(CONVENTIONS[source].tensors[name] for name in sorted(missing))
        rule = "running statistics are needed"
        raise ValueError(explain("from_framework", rule, f"no {wanted}", "Pass them in state"))

    mean = tensors["running_mean"]
    affine = "weight" in tensors or "bias" in tensors
    make = getattr(layers, f"BatchNorm{rank}d")
    layer: nn.Module = make(
        mean.numel(),
        **convert_options(options, source, "torch"),
        affine=affine,
        bias="bias" in tensors,
        dtype=mean.dtype,
    )
    own = layer.state_dict()
    layer.load_state_dict({name: tensors.get(name, value) for name, value in own.items()})
    if affine and "weight" not in tensors:
        layer.get_parameter("weight").requires_grad_(False)

    return layer


def _refusal(who: str, got: str) -> str:
    rule = "the layer must be plain batch norm with running statistics"
    return explain(who, rule, got, "Convert it to torch.BatchNorm first, or fold it")
