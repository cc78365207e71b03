"""A model that can be run and is afterwards as if it had not been."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["untouched"]


@contextmanager
def untouched(model: nn.Module, loader: Any = None) -> Iterator[None]:
    """Put everything back that the body may change.

    Buffers are copies while the body runs, so that the model's own tensors are not even written to;
    modes, plain attributes and every random generator (torch's, Python's, NumPy's if it is loaded,
    the loader's own) return to what they were. There are no gradients in the body unless it asks.

    Args:
        model: what the body runs.
        loader: what it draws from.

    Example:
        >>> layer = torch.nn.BatchNorm1d(2)
        >>> with untouched(layer):
        ...     _ = layer(torch.randn(8, 2))
        >>> layer.running_mean
        tensor([0., 0.])
    """
    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    members = [_members(module) for module in modules]
    copies: dict[int, Tensor] = {}
    with _same_generators(model, loader), torch.no_grad():
        try:
            for module in modules:
                for name, buffer in module._buffers.items():
                    if buffer is not None and not is_lazy(buffer):
                        module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())
            yield
        finally:
            for module, plain, own in zip(modules, attributes, members, strict=True):
                _refill(module.__dict__, plain)
                for container, content in zip(_containers(module), own, strict=True):
                    _refill(container, content)


def _containers(module: nn.Module) -> tuple[dict[str, Any], ...]:
    return module._buffers, module._parameters, module._modules


def _members(module: nn.Module) -> list[dict[str, Any]]:
    return [dict(container) for container in _containers(module)]


def _refill(container: dict[str, Any], content: dict[str, Any]) -> None:
    same = list(container) == list(content)
    if not (same and all(container[name] is value for name, value in content.items())):
        container.clear()
        container.update(content)


@contextmanager
def _same_generators(model: nn.Module, loader: Any) -> Iterator[None]:
    numpy: Any = sys.modules.get("numpy")
    python = random.getstate()
    legacy = None if numpy is None else numpy.random.get_state()
    own = [(generator, generator.get_state()) for generator in _generators_of(loader)]
    tensors = (*model.parameters(), *model.buffers())
    devices = list({tensor.device for tensor in tensors if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            if legacy is not None:
                numpy.random.set_state(legacy)
            for generator, state in own:
                generator.set_state(state)


def _generators_of(loader: Any) -> list[torch.Generator]:
    samplers = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
    holders = (loader, *samplers, getattr(samplers[1], "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)

    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
