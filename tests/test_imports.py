"""Imports point down: a floor of the package knows only the floors below it."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "batchnorm"
KERNELS = ROOT / "csrc" / "kernels"

# One row per floor, lowest first. Parts of one row do not know each other.
FLOORS = [
    {"_errors", "_memory"},
    {"_types"},
    {"reference", "triton"},
    {"ops"},
    {"functional", "_info"},
    {"layers"},
    {"stats", "surgery", "watch"},
    {"doctor"},
    {"lab"},
    {"cli"},
]
HEIGHT = {part: height for height, parts in enumerate(FLOORS) for part in parts}
# The root re-exports names up to here, the doctor's when they are asked for; what lies above is
# imported by those who ask for it.
ROOT_HEIGHT = HEIGHT["doctor"] + 1

# What each part may import from outside the package and the standard library.
FOREIGN = {
    "lab": {
        "torch",
        "PIL",
        "datasets",  # where something is downloaded
        "numpy",
        "scipy",
        "sklearn",
        "joblib",
        "polars",
        "ray",
        "altair",
        "vl_convert",
        "jinja2",
        "rich",
    },
    "cli": {"torch", "cyclopts", "rich", "safetensors"},
    "stats": {"torch", "rich", "altair"},  # the latter two where they are asked for
    "triton": {"torch", "triton"},
    # Sinks and callbacks, each where it is asked for.
    "watch": {
        "torch",
        "rich",
        "pyarrow",
        "wandb",
        "mlflow",
        "lightning",
        "pytorch_lightning",
        "transformers",
    },
}


def part_of(path: Path) -> str:
    """``ops`` for ``ops/_fakes.py``, ``_types`` for ``_types.py``, ``""`` for the root."""
    name = path.relative_to(PACKAGE).with_suffix("").parts[0]
    return "" if name == "__init__" else name


def imported(path: Path) -> Iterator[str]:
    """Absolute names of everything that a file imports, lazily or not."""
    package = ["batchnorm", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def parts_imported(path: Path) -> set[str]:
    """Parts of the package that a file imports; names of the root itself do not count."""
    names = (name.split(".") for name in imported(path))
    parts = {name[1] for name in names if name[0] == "batchnorm" and len(name) > 1}
    return {
        part for part in parts if (PACKAGE / part).exists() or (PACKAGE / f"{part}.py").exists()
    }


def foreign_imported(path: Path) -> set[str]:
    """Top-level modules that are neither ours nor the standard library's."""
    tops = {name.split(".")[0] for name in imported(path)}
    return tops - {"batchnorm", "_typeshed"} - set(sys.stdlib_module_names)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if part_of(path) != "keras")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    assert not part or part in HEIGHT, f"{part} has no floor: give it one in FLOORS"
    height = HEIGHT[part] if part else ROOT_HEIGHT

    upward = {other for other in parts_imported(path) - {part} if HEIGHT[other] >= height}

    assert not upward, f"{path.relative_to(ROOT)} imports upwards: {sorted(upward)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_part_imports_only_its_own_dependencies(path: Path) -> None:
    extra = foreign_imported(path) - FOREIGN.get(part_of(path), {"torch"})

    assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}"


@pytest.mark.parametrize(
    "path", sorted(KERNELS.rglob("*.*")), ids=lambda path: str(path.relative_to(KERNELS))
)
def test_kernels_include_neither_torch_nor_ops(path: Path) -> None:
    includes = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', path.read_text("utf-8"), re.MULTILINE)

    assert not [name for name in includes if re.search(r"torch|ATen|c10|ops/", name)]


def test_import_is_light() -> None:
    code = """
import json, sys, torch
before = set(sys.modules)
import batchnorm
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(run.stdout)

    tops = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert tops <= {"batchnorm", "torch"}
    heavy = [name for name in loaded if re.match(r"batchnorm\.(lab|cli|doctor|triton|keras)", name)]
    assert not heavy
