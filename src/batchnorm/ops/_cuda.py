"""CUDA (and ROCm): ``batchnorm.triton``, imported at the first call, or plain torch and why.

The dispatcher finds an entry of ours under its CUDA key. The first call decides which of the two
it leads to from then on; ``import batchnorm`` imports no triton.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from ._schemas import LIBRARY, NAMESPACE

__all__ = ["cuda_route"]

_OPERATORS = (
    "batch_norm_train",
    "batch_norm_train_",
    "batch_norm_train_backward",
    "batch_norm_eval",
    "batch_norm_eval_",
    "batch_norm_eval_backward",
    "batch_norm_stats",
    "batch_norm_apply",
    "batch_norm_backward_reduce",
    "batch_norm_backward_apply",
    "batch_norm_commit_",
)
_FALLBACK = torch._C.DispatchKey.CompositeExplicitAutograd
_SWITCH = "BATCHNORM_DISABLE_TRITON"


def _obstacle() -> str:
    """Why Triton cannot serve, as far as can be said without importing it; empty: it can."""
    if os.environ.get(_SWITCH, "0") not in ("", "0"):
        return f"switched off by {_SWITCH}"
    if importlib.util.find_spec("triton") is None:
        return 'triton is not installed (pip install "batchnorm[gpu]")'

    return ""


@cache
def _kernels() -> tuple[Any, str]:
    """The module of the kernels, or None and the reason."""
    if reason := _obstacle():
        return None, reason
    try:
        return importlib.import_module("batchnorm.triton"), ""
    except Exception as error:  # a broken installation of triton must not end a training
        return None, f"triton does not load: {error}"


def _serve(name: str) -> Callable[..., Any]:
    overload = getattr(getattr(torch.ops, NAMESPACE), name).default

    def serve(*args: Any) -> Any:
        kernels, _ = _kernels()
        if kernels is None:
            return overload._op_dk(_FALLBACK, *args)

        return getattr(kernels, name)(*args)

    return serve


for _name in _OPERATORS:
    LIBRARY.impl(_name, _serve(_name), "CUDA")


def cuda_route() -> str:
    """What serves CUDA tensors, and why; imports nothing that was not asked for before."""
    # Importing is the only sure test, so what an earlier call found out is preferred.
    reason = _kernels()[1] if _kernels.cache_info().currsize else _obstacle()
    if reason:
        return f"plain torch operators: {reason}"

    return (
        "Triton kernels; groups, renormalisation and whitening by plain torch operators"
        f"{'' if torch.cuda.is_available() else ' (no GPU in this process)'}"
    )
