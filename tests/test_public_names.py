"""The public surface: names, weight of the import, status. A change here is a decision."""

import subprocess
import sys
from pathlib import Path

import pytest

import batchnorm as bn

NAMES = {
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchNormGRU",
    "BatchNormLSTM",
    "BatchStats",
    "RecurrentBatchNorm",
    "SequenceBatchNorm",
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BatchRenorm3d",
    "Ramp",
    "WhitenedBatchNorm1d",
    "WhitenedBatchNorm2d",
    "WhitenedBatchNorm3d",
    "DomainBatchNorm1d",
    "DomainBatchNorm2d",
    "DomainBatchNorm3d",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "GhostBatchNorm3d",
    "SplitBatchNorm1d",
    "SplitBatchNorm2d",
    "SplitBatchNorm3d",
    "SyncBatchNorm",
    "accumulate",
    "adapt",
    "convert",
    "domain",
    "fold",
    "freeze",
    "functional",
    "info",
    "insert",
    "keep_pages",
    "prune_report",
    "recalibrate",
    "set_updates",
    "skip_updates",
    "train_eval_gap",
    "thaw",
    "watch",
}
FUNCTIONS = {"batch_norm", "batch_norm_stats", "update_running"}
# Imported when they are asked for.
LATER = {"diagnose"}
FLOORS = {"layers", "stats", "surgery", "doctor", "ops", "reference", "triton", "lab", "cli"}


def public(module) -> set[str]:
    return {n for n in vars(module) if not n.startswith("_")}


def test_names_of_the_package():
    assert public(bn) - FLOORS == NAMES
    assert set(bn._LATER) == LATER
    assert set(dir(bn)) >= NAMES | LATER
    assert bn.__version__ == "0.1.0"


def test_names_of_functional():
    assert set(bn.functional.__all__) == FUNCTIONS


@pytest.mark.parametrize("name", sorted((NAMES | LATER) - {"functional"}))
def test_every_public_name_has_a_docstring_and_says_where_it_lives(name):
    thing = getattr(bn, name)
    assert thing.__doc__
    assert thing.__doc__.strip()[0].isupper()


def run(code: str, **env: str) -> str:
    import os

    source = str(Path(bn.__file__).parents[1])
    paths = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_is_light():
    heavy = ["triton", "keras", "sklearn", "scipy", "altair", "rich", "matplotlib", "joblib"]
    code = f"import sys, batchnorm; print([m for m in {heavy} + ['batchnorm.lab', 'batchnorm.cli'] "
    code += "if m in sys.modules])"
    before = run(f"import sys, torch; print([m for m in {heavy} if m in sys.modules])")
    assert run(code) == before


def test_switching_the_native_library_off_is_reported():
    text = run("import batchnorm; print(batchnorm.info())", BATCHNORM_DISABLE_NATIVE="1")
    assert "BATCHNORM_DISABLE_NATIVE" in text
    assert bn.__version__ in text


def test_missing_library_is_reported_and_everything_still_runs():
    code = (
        "import torch, batchnorm as bn\n"
        "x = torch.randn(6, 3, 4, 4, requires_grad=True)\n"
        "bn.BatchNorm2d(3, activation='relu')(x).sum().backward()\n"
        "print(bn.info())"
    )
    text = run(code, BATCHNORM_LIBRARY="/nowhere/_kernels.so")
    assert "/nowhere/_kernels.so" in text


def test_status_names_version_path_and_dtypes():
    text = str(bn.info())
    assert bn.__version__ in text
    for word in ("cpu", "float32", "bfloat16"):
        assert word in text


def test_keep_pages_says_whether_it_took_effect():
    # In a process of its own: it changes the allocator for good.
    assert run("import batchnorm; print(batchnorm.keep_pages())") in ("True", "False")
    assert run("import batchnorm; print(batchnorm.keep_pages(False))") in ("True", "False")
