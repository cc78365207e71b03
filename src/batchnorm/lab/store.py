"""Finished trials on disk, so that a run that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

import batchnorm

from ._whole import sweep, write_whole

__all__ = ["Record", "TrialStore", "code_version"]

PACKAGE = Path(__file__).parents[1]
# Parts of the package that show or start trials and cannot change one.
NO_INFLUENCE = (
    "cli",
    "lab/renderers",
    "lab/experiments",
    "lab/__init__.py",
    "lab/_chart.py",
    "lab/_compare.py",
    "lab/_experiment.py",
    "lab/_files.py",
    "lab/_ranking.py",
    "lab/_ray.py",
    "lab/_record.py",
    "lab/_registry.py",
    "lab/_rules.py",
    "lab/_runner.py",
    "lab/_series.py",
    "lab/_study.py",
    "lab/claims.py",
    "lab/demo.py",
    "lab/data/_download.py",
    "lab/data/_overview.py",
    "lab/environment.py",
    "lab/parallel.py",
    "lab/store.py",
    "lab/summary.py",
    "lab/words.py",
)


class Record(Protocol):
    """Any dataclass whose fields JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def code_version() -> str:
    """Digest of everything of ours that a trial's numbers depend on, and torch's version.

    Covers the sources of the package and its native library; not the command line, the renderers
    and the experiments' choice of trials, whose changes leave a finished trial valid.
    """
    digest = hashlib.sha256(f"torch {torch.__version__} numpy {np.__version__}".encode())
    native = batchnorm.info()
    digest.update(native.instruction_set.encode())
    if native.library:
        digest.update(Path(native.library).read_bytes())
    for path in _sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterable[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith(NO_INFLUENCE):
            yield path


@dataclass(frozen=True)
class TrialStore:
    """One JSON file per finished trial, named by its configuration and the code that ran it.

    Args:
        folder: where the files lie; made when the first trial is saved.
        code: :func:`code_version` of the code that runs now.
    """

    folder: Path
    code: str

    def path(self, config: Record) -> Path:
        """The file of one trial."""
        identity = {"kind": type(config).__name__, "config": asdict(config), "code": self.code}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{key[:24]}.json"

    def load(self, config: Record) -> dict[str, Any] | None:
        """The stored result, or None if there is none that can be read whole."""
        try:
            stored = json.loads(self.path(config).read_text(encoding="utf-8"))
            result = stored["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return result if isinstance(result, dict) else None

    def sweep(self) -> None:
        """Remove what writers that were killed have begun; theirs alone."""
        sweep(self.folder)

    def save(self, config: Record, result: Record) -> None:
        """Write one trial; another process sees the whole file or none."""
        text = json.dumps({"config": asdict(config), "code": self.code, "result": asdict(result)})
        write_whole(self.path(config), lambda part: part.write_text(text, encoding="utf-8"))
