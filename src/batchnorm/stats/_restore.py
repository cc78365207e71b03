"""Temporary changes of a model, undone on every exit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Saved", "borrowed", "hooked", "modes"]


@contextmanager
def borrowed(modules: Iterable[object], **values: Any) -> Iterator[None]:
    """Attributes of each object set to these values for the time of the body.

    Example:
        >>> layer = torch.nn.BatchNorm1d(1)
        >>> with borrowed([layer], momentum=1.0):
        ...     layer.momentum
        1.0
        >>> layer.momentum
        0.1
    """
    before: list[tuple[object, str, Any]] = []
    try:
        for module in modules:
            for name, value in values.items():
                before.append((module, name, getattr(module, name)))
                setattr(module, name, value)
        yield
    finally:
        for module, name, old in reversed(before):
            setattr(module, name, old)


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """A forward pre-hook ``hook(module, args, kwargs)`` on each module, after those it has."""
    handles: list[Any] = []
    try:
        handles += (module.register_forward_pre_hook(hook, with_kwargs=True) for module in modules)
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def modes(model: nn.Module, training: Iterable[nn.Module]) -> Iterator[None]:
    """These modules in training mode, all others in eval mode; then each as it was.

    The flags are set one by one, so that a model's own ``train()`` has no say in it.
    """
    flags = [(module, module.training) for module in model.modules()]
    on = {id(module) for module in training}
    try:
        for module, _ in flags:
            module.training = id(module) in on
        yield
    finally:
        for module, flag in flags:
            module.training = flag


class Saved:
    """Values of tensors in modules, to go back to.

    Args:
        modules: their own buffers are saved.
        parameters: saved too.
    """

    def __init__(self, modules: Iterable[nn.Module], parameters: Iterable[Tensor] = ()) -> None:
        self._buffers = [
            (module, name, tensor, None if tensor is None else tensor.detach().clone())
            for module in modules
            for name, tensor in module._buffers.items()
        ]
        self._parameters = [(tensor, tensor.detach().clone()) for tensor in parameters]

    @torch.no_grad()
    def restore(self) -> None:
        """Write the values back, into the same tensors."""
        for module, name, tensor, value in self._buffers:
            module._buffers[name] = tensor
            if tensor is not None and value is not None:
                tensor.copy_(value)
        for tensor, value in self._parameters:
            tensor.copy_(value)
