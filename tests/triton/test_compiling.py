"""Every kernel through Triton's compiler, for GPUs that are not here: the interpreter is no judge.

It takes Python that the compiler refuses, knows nothing of registers, and rounds bfloat16 down.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed (`make triton` installs it)")

KERNELS = {
    "train_kernel",
    "train_backward_kernel",
    "stats_kernel",
    "merge_kernel",
    "apply_kernel",
    "reduce_kernel",
    "sum_kernel",
    "backward_apply_kernel",
    "commit_kernel",
}
ALL = ("bfloat16,float16,float32,float64", "plain,act,residual,residual_act,masked")


def compile_for(target: str, dtypes: str, forms: str, layouts: str, shapes: str) -> list[dict]:
    """What ``tests/triton/compiling.py`` found, in a process without the interpreter."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.triton.compiling", target, dtypes, forms, layouts, shapes],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("target", ["cuda:80", "cuda:90", "hip:gfx942"])
def test_kernels_compile(target):
    found = compile_for(target, "bfloat16", "residual_act", "contiguous", "on chip,split")
    assert {kernel["kernel"] for kernel in found} == KERNELS


def test_nothing_spills_on_the_gpu_that_the_table_is_made_for():
    found = compile_for("cuda:90", "float32", "residual_act", "contiguous", "on chip")
    assert not [kernel for kernel in found if kernel["stack"] > 0]


@pytest.mark.parametrize(("layout", "shape"), [("contiguous", "split"), ("channels_last", "wide")])
def test_streaming_kernels_load_sixteen_bytes_at_a_time(layout, shape):
    found = compile_for("cuda:90", "bfloat16", "plain", layout, shape)
    streaming = [k for k in found if k["kernel"] in ("stats_kernel", "apply_kernel")]
    assert {kernel["load_bits"] for kernel in streaming} == {128}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("target", ["cuda:90", "hip:gfx942"])
def test_kernels_compile_in_every_form(target):
    compile_for(target, *ALL, "contiguous,channels_last", "on chip,cached,split")
