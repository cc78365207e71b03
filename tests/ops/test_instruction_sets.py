"""The kernels of narrower processors pass the tests that this processor's kernels pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import batchnorm as bn

OPS = Path(__file__).parent
FILES = ["test_phases.py", "test_masks.py", "test_activation_points.py"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("instructions", ["baseline", "avx2"])
def test_narrower_instruction_sets_pass_the_operator_tests(native, instructions):
    wider = {"baseline": ["avx2", "avx512"], "avx2": ["avx512"]}[instructions]
    chosen = bn.info().instruction_set
    if chosen not in wider:
        pytest.skip(f"the kernels in use are {chosen}: nothing wider than {instructions}")

    env = {**os.environ, "BATCHNORM_CPU_CAPABILITY": instructions}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(OPS / name) for name in FILES)],
        cwd=OPS.parents[1],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]
