"""The two implementations of every operator, called by the operator's name."""

from collections.abc import Callable
from typing import Any

import torch

import batchnorm  # noqa: F401  (registers the operators)

FALLBACK = torch._C.DispatchKey.CompositeExplicitAutograd


class Kernels:
    """Operators as functions: through the dispatcher, or the pure-torch kernel by its key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, op: str) -> Callable[..., Any]:
        overload = getattr(torch.ops.batchnorm, op).default
        if self.name == "native":
            return overload

        def fallback(*args: Any) -> Any:
            with torch.no_grad():
                return overload._op_dk(FALLBACK, *args)

        return fallback


def has_native() -> bool:
    """Whether a CPU kernel of our own is registered (the pure-torch one is not under CPU)."""
    op = "batchnorm::batch_norm_train"
    return torch._C._dispatch_has_kernel_for_dispatch_key(op, "CPU")


def schemas() -> list[torch._C.FunctionSchema]:
    """Every schema of the namespace, from torch's registry."""
    mine = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith("batchnorm::")]
    return sorted(mine, key=lambda s: s.name)
