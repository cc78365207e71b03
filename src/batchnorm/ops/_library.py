"""Find and load the native kernels, and keep the reason when there are none."""

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["NATIVE", "NativeLibrary"]

_FILE_NAME = "_kernels.so"
_DISTRIBUTION = "batchnorm"
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class NativeLibrary:
    """The loaded library's path, or why there is none."""

    path: Path | None
    reason: str

    @property
    def loaded(self) -> bool:
        """Whether the kernels serve the CPU."""
        return self.path is not None


def _installed_elsewhere() -> Path | None:
    """The library as the installer recorded it; an editable install keeps it in site-packages."""
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None

    found = (Path(str(file.locate())) for file in files if file.name == _FILE_NAME)
    return next((path for path in found if path.exists()), None)


def _find() -> Path | None:
    named = os.environ.get("BATCHNORM_LIBRARY")
    if named:
        return Path(named)

    beside = _PACKAGE / _FILE_NAME
    return beside if beside.exists() else _installed_elsewhere()


def _load() -> NativeLibrary:
    if os.environ.get("BATCHNORM_DISABLE_NATIVE", "0") not in ("", "0"):
        return NativeLibrary(None, "switched off by BATCHNORM_DISABLE_NATIVE")

    path = _find()
    if path is None:
        return NativeLibrary(None, "not built: the package was installed without a compiler")

    try:
        torch.ops.load_library(path)
    except OSError as error:
        return NativeLibrary(None, f"{path} does not load: {error}")

    return NativeLibrary(path, "")


NATIVE = _load()
