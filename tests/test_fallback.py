"""The whole package without its native library: the same tests, another process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels import has_native

HERE = Path(__file__).parent
PARTS = ["layers/test_drop_in.py", "layers/test_masked_layers.py", "functional/test_inplace.py"]
PARTS += ["functional/test_transforms.py", "functional/test_saved_memory.py"]
PARTS += ["functional/test_update_running.py", "layers/test_non_finite.py"]


@pytest.mark.timeout(280)
def test_layers_and_functions_pass_without_the_native_library():
    if not has_native():
        pytest.skip("this process has no native library: every test already runs without it")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        + [str(HERE / part) for part in PARTS],
        env={**os.environ, "BATCHNORM_DISABLE_NATIVE": "1", "REQUIRE_NATIVE": "0"},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]
