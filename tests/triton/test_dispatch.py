"""What a CUDA tensor meets: the dispatcher's CUDA entry, called here with CPU tensors."""

import os
import subprocess
import sys

import pytest
import torch

import batchnorm as bn
from batchnorm.ops import _cuda
from tests.calls import train
from tests.cases import make_case

CUDA = torch._C.DispatchKey.CUDA


class ByCudaKey:
    def __getattr__(self, op):
        return lambda *args: getattr(torch.ops.batchnorm, op).default._op_dk(CUDA, *args)


def run(code: str, **env: str) -> str:
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@pytest.mark.parametrize("op", _cuda._OPERATORS)
def test_every_operator_of_the_kernels_is_registered_for_cuda(op):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"batchnorm::{op}", "CUDA")


def test_cuda_entry_reaches_the_kernels(triton_kernels, monkeypatch):
    case = make_case((3, 2, 4, 4), form="residual_act")
    called = []
    real = triton_kernels.batch_norm_train
    monkeypatch.setattr(triton_kernels, "batch_norm_train", lambda *a: called.append(a) or real(*a))
    with torch.no_grad():
        got, want = train(ByCudaKey(), case), train(triton_kernels, case)
    assert len(called) == 2
    assert torch.equal(got.output, want.output)


def test_groups_stay_on_the_fallback():
    assert not [name for name in _cuda._OPERATORS if "groups" in name]
    name = "batchnorm::batch_norm_groups_train"
    assert not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")


SERVED_BY = """
import sys, torch, batchnorm as bn
key = torch._C.DispatchKey.CUDA
x = torch.randn(4, 3)
with torch.no_grad():
    y = torch.ops.batchnorm.batch_norm_stats.default._op_dk(key, x, None)[0]
print(torch.allclose(y, x.mean(0), atol=1e-6), 'batchnorm.triton' in sys.modules)
print(dict(bn.info().routes)['cuda'])
"""


def test_switched_off_it_falls_back_and_says_so():
    right, route = run(SERVED_BY, BATCHNORM_DISABLE_TRITON="1").splitlines()
    assert right == "True False"
    assert route == "plain torch operators: switched off by BATCHNORM_DISABLE_TRITON"


def test_without_triton_it_falls_back_and_says_so():
    hide = "import sys; sys.modules['triton'] = None\n"
    find = "import importlib.util as u; f = u.find_spec\n"
    find += "u.find_spec = lambda n, *a: None if n == 'triton' else f(n, *a)\n"
    right, route = run(hide + find + SERVED_BY).splitlines()
    assert right == "True False"
    assert "triton is not installed" in route


def test_a_broken_triton_falls_back_and_says_so():
    block = "import sys, types; sys.modules['triton'] = types.ModuleType('triton')\n"
    block += "import importlib.machinery as m\n"
    block += "sys.modules['triton'].__spec__ = m.ModuleSpec('triton', None)\n"
    right, route = run(block + SERVED_BY).splitlines()
    assert right == "True False"
    assert "triton does not load" in route


def test_status_names_what_cuda_would_be_served_by():
    assert "cuda: " in str(bn.info())
