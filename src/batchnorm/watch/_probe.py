"""A forward beside the training: it leaves buffers, random generators and gradients alone."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

__all__ = ["is_compiled", "run_aside"]


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` has some of it: hooks are not in its graphs."""
    return any(
        m._compiled_call_impl is not None or isinstance(m._modules.get("_orig_mod"), nn.Module)
        for m in model.modules()
    )


def run_aside(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run the model eagerly as the coming forward will, on copies of what it could change."""
    args, kwargs = _pytree.tree_map_only(Tensor, _copy, (args, kwargs))
    with (
        _same_buffers(model),
        _same_generators(model),
        _eager(),
        torch.no_grad(),
    ):
        model(*args, **kwargs)


def _copy(x: Tensor) -> Tensor:
    return x.detach().clone()


@contextmanager
def _same_buffers(model: nn.Module) -> Iterator[None]:
    """Modules write into copies: writing values back would count as a change for autograd."""
    modules = list(model.modules())
    before = [dict(module._buffers) for module in modules]
    copies = {id(b): b.detach().clone() for own in before for b in own.values() if b is not None}
    try:
        for module, own in zip(modules, before, strict=True):
            module._buffers.update({n: b if b is None else copies[id(b)] for n, b in own.items()})
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            module._buffers.clear()
            module._buffers.update(own)


@contextmanager
def _same_generators(model: nn.Module) -> Iterator[None]:
    numpy: Any = sys.modules.get("numpy")
    python = random.getstate()
    legacy = None if numpy is None else numpy.random.get_state()
    tensors = (*model.parameters(), *model.buffers())
    devices = list({tensor.device for tensor in tensors if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            if legacy is not None:
                numpy.random.set_state(legacy)


def _eager() -> AbstractContextManager[Any]:
    if "torch._dynamo" not in sys.modules:
        return nullcontext()

    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")

    return stance
