"""The tests of this folder need a GPU: skipped without one, failed with REQUIRE_GPU=1."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import batchnorm as bn
from tests.triton.conftest import SMALL

# What cuBLAS asks for before it promises the same bits, which all tests ask for.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Hundreds of tests that would all be skipped for one reason: those in test_layers.py tell it.
if not torch.cuda.is_available() and os.environ.get("REQUIRE_GPU") != "1":
    collect_ignore = ["test_operators.py"]


@pytest.fixture(autouse=True)
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        reason = "no CUDA device (REQUIRE_GPU=1 makes this a failure)"
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    served = dict(bn.info().routes)["cuda"]
    assert served.startswith("Triton"), served
    return torch.device("cuda")


def to_gpu(value: Any) -> Any:
    """A tensor in the same layout on the GPU, gaps between its elements included."""
    if not isinstance(value, Tensor):
        return value
    there = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
    if torch._debug_has_internal_overlap(value) == 1:
        return value.cuda().as_strided(value.shape, value.stride())
    return there.copy_(value)


def to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    return tuple(map(to_cpu, value)) if isinstance(value, (tuple, list)) else value


class OnGpu:
    """The operators, given copies of CPU tensors; what they write comes back."""

    def __getattr__(self, op: str) -> Callable[..., Any]:
        overload = getattr(torch.ops.batchnorm, op).default

        def call(*args: Any) -> Any:
            moved = [to_gpu(arg) for arg in args]
            with torch.no_grad():
                result = overload(*moved)
            for argument, old, new in zip(overload._schema.arguments, args, moved, strict=True):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    old.copy_(new)
            return to_cpu(result)

        return call


@pytest.fixture
def whole() -> OnGpu:
    """The operators with the table of cuts as it is."""
    return OnGpu()


@pytest.fixture(params=SMALL)
def kernels(request: pytest.FixtureRequest, gpu: torch.device, monkeypatch: Any) -> OnGpu:
    """The same with the table scaled down, so that small tensors take every way."""
    from batchnorm.triton import _plan

    limits = dataclasses.replace(_plan.Limits(), **SMALL[request.param])
    monkeypatch.setattr(_plan, "LIMITS", limits)
    return OnGpu()
