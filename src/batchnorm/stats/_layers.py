"""The batch norm layers of a model that statistics tools can work on."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from .._errors import explain
from ..layers._batchnorm import _BatchNorm as _Ours

__all__ = [
    "Found",
    "find_layers",
    "has_own_input",
    "innermost",
    "statistics_of",
    "write_statistics",
]

_OWN_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Found:
    """What a model has.

    Args:
        layers: path → layer, each layer once, in the order of the model.
        left: path → why the tools leave it alone.
    """

    layers: dict[str, Any]
    left: dict[str, str]


def find_layers(model: nn.Module, who: str) -> Found:
    """Batch norm layers, torch's, ours and subclasses of both.

    Raises:
        ValueError: there is none to work on, or the model is lazy and has seen no input.
    """
    _refuse_lazy(model, who)
    layers: dict[str, Any] = {}
    left: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            reason = _reason_to_leave(module)
            if reason:
                left[path] = reason
            else:
                layers[path] = module
    if not layers:
        reasons = "; ".join(f"{path or 'it'}: {reason}" for path, reason in left.items())
        raise ValueError(
            explain(
                who,
                "the model must have batch norm layers with running statistics",
                f"{type(model).__name__} without any{reasons and f' ({reasons})'}",
                "Pass a model that has some",
            )
        )

    return Found(layers, left)


def _refuse_lazy(model: nn.Module, who: str) -> None:
    """What a first input would build could not be taken back."""
    for path, module in model.named_modules():
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            raise ValueError(
                explain(
                    who,
                    "lazy layers must have seen an input",
                    f"{type(module).__name__} at {path!r}",
                    "Call the model once before",
                )
            )


def _reason_to_leave(layer: Any) -> str:
    if layer.running_mean is None or layer.running_var is None:
        return "has no running statistics"
    if not getattr(layer, "_updates", True):
        return "its updates are switched off"
    if "stats" in getattr(layer, "frozen", ()):
        return "its statistics are frozen"
    others = [
        name
        for name, buffer in layer._buffers.items()
        if name.startswith("running_") and name not in _OWN_STATISTICS and buffer is not None
    ]
    plain = layer.running_mean.shape == (layer.num_features,) and not others
    if not (plain or isinstance(layer, _Ours)):
        return "remembers other things than a mean and a variance per channel"

    return ""


def has_own_input(layer: Any) -> bool:
    """Whether a layer of ours has another input than ``(N, C, *)``, or a memory by domain or step.

    Such a layer is asked what a batch means to it; of all others the input is measured.
    """
    one_per_channel = layer.running_mean.shape == (layer.num_features,)

    return isinstance(layer, _Ours) and (
        type(layer).forward is not _Ours.forward or not one_per_channel
    )


def innermost(model: nn.Module) -> nn.Module:
    """The model without what ``torch.compile`` and data parallelism put around it.

    Their wrappers hide hooks, and broadcast buffers at every forward.
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def statistics_of(layer: Any) -> tuple[Tensor, Tensor]:
    """Copies of the running mean and variance, float64."""
    mean, var = (
        buffer.detach().to(torch.float64, copy=True)
        for buffer in (layer.running_mean, layer.running_var)
    )

    return mean, var


@torch.no_grad()
def write_statistics(
    layer: Any, mean: Tensor, var_unbiased: Tensor, where: Tensor | None = None
) -> None:
    """Write into the layer's own tensors, in all channels or where told."""
    for buffer, value in ((layer.running_mean, mean), (layer.running_var, var_unbiased)):
        new = value.to(dtype=buffer.dtype, device=buffer.device)
        buffer.copy_(new if where is None else torch.where(where, new, buffer))
