"""A result as JSON, for programs."""

from dataclasses import asdict
from pathlib import Path

from .. import _files
from ..demo import Result

__all__ = ["write_json"]


def write_json(result: Result, path: Path) -> None:
    """Write everything that the other renderers show, and the numbers of every seed.

    A number that is not finite becomes null.
    """
    _files.write_json(asdict(result), path)
