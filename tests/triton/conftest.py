"""The operators in Triton: on a GPU if there is one, else in the interpreter on CPU tensors."""

import dataclasses
from typing import Any

import numpy
import pytest
import torch

SMALL = {
    "whole": {},
    # Every tensor in several parts of several tiles, some beyond the end, and planes cut.
    "split": {"on_chip": 1, "tile": 32, "space": 16, "programs": 4, "enough": 2**30},
    # Every channel by one program that reads it twice.
    "cached": {"on_chip": 1, "tile": 32, "enough": 1},
}


@pytest.fixture(scope="session")
def triton_kernels() -> Any:
    """``batchnorm.triton``, interpreted."""
    if torch.cuda.is_available():
        pytest.skip("with a GPU the same bodies run there: tests/gpu")
    pytest.importorskip("triton", reason="triton is not installed (`make triton` installs it)")
    import batchnorm.triton as kernels

    return kernels


@pytest.fixture(autouse=True)
def quiet_numpy():
    """The interpreter computes by numpy, which warns where floats overflow on purpose."""
    with numpy.errstate(all="ignore"):
        yield


@pytest.fixture
def whole(triton_kernels: Any) -> Any:
    """The launchers with the table of cuts as it is, for what does not depend on the cut."""
    return triton_kernels


@pytest.fixture(params=SMALL)
def kernels(request: pytest.FixtureRequest, triton_kernels: Any, monkeypatch: Any) -> Any:
    """The launchers, with the table of cuts as it is and scaled down to tiny tensors."""
    from batchnorm.triton import _plan

    limits = dataclasses.replace(_plan.Limits(), **SMALL[request.param])
    monkeypatch.setattr(_plan, "LIMITS", limits)
    return triton_kernels
