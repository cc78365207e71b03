"""Which modules are watched, and what each of them is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation
from torch.nn.modules.batchnorm import _BatchNorm

from .._errors import explain
from ._schema import Kind

__all__ = ["Choice", "Site", "activation_of", "input_and_mask", "find_sites", "innermost"]

Choice = Callable[[str, nn.Module], bool] | Iterable[str]
"""Which modules: a predicate of path and module, or dotted paths."""

_ACTIVATIONS = tuple(
    getattr(activation, name)
    for name in activation.__all__
    if name not in {"MultiheadAttention", "Softmin", "Softmax", "Softmax2d", "LogSoftmax"}
)


@dataclass(frozen=True)
class Site:
    """A module that is watched.

    Args:
        path: dotted; ``""`` is the model itself.
        module: with hooks while a step is recorded.
        kind: what is measured of it.
    """

    path: str
    module: nn.Module
    kind: Kind


def find_sites(model: nn.Module, choice: Choice | None) -> list[Site]:
    """Batch norms and activations, or what was asked for; each module once.

    Raises:
        ValueError: there is none, or a path is not in the model.
    """
    modules = dict(model.named_modules())
    if choice is None:
        wanted = {path for path, m in modules.items() if _kind(m) != "other"}
    elif callable(choice):
        wanted = {path for path, m in modules.items() if choice(path, m)}
    else:
        wanted = {choice} if isinstance(choice, str) else set(choice)
    unknown = sorted(wanted - set(modules))
    if unknown or not wanted:
        got = f"no module called {', '.join(unknown)}" if unknown else "none"
        raise ValueError(
            explain(
                "watch",
                "the model must have the modules to watch, by default batch norms and activations",
                f"{got} in {type(model).__name__}",
                "Pass modules=lambda path, module: ... or dotted paths",
            )
        )

    return [Site(path, m, _kind(m)) for path, m in modules.items() if path in wanted]


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, _BatchNorm):
        return "batchnorm"

    return "activation" if isinstance(module, _ACTIVATIONS) else "other"


def activation_of(module: Any) -> str:
    """The activation that a module applies, by torch's functional name; ``""`` without one."""
    if isinstance(module, _ACTIVATIONS):
        return type(module).__name__.lower()

    own = getattr(module, "activation", "identity")

    return own if isinstance(own, str) and own != "identity" else ""


def input_and_mask(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Tensor | None]:
    """The first argument of a call, and the mask of its real positions.

    Args:
        module: that is called.
        args: positional arguments of the call.
        kwargs: named ones.
    """
    if len(args) == 1 and not kwargs:
        return args[0], None

    values = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    input = next(iter(values.values()))
    mask, lengths = values.get("mask"), values.get("lengths")
    if lengths is not None and isinstance(input, Tensor) and input.dim() == 3:
        at = 1 if getattr(module, "channel_axis", 1) in (2, -1) else 2
        ends = torch.as_tensor(lengths, device=input.device)
        mask = torch.arange(input.shape[at], device=input.device) < ends[:, None]

    return input, mask if isinstance(mask, Tensor) else None


def innermost(model: nn.Module) -> nn.Module:
    """The model without what ``torch.compile`` and data parallelism put around it."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model
