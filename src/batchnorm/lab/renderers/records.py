"""A result as JSON, for programs."""

import json
from dataclasses import asdict
from pathlib import Path

from ..experiments.figure1 import Result

__all__ = ["write_json"]


def write_json(result: Result, path: Path) -> None:
    """Write everything that the other renderers show, and the numbers of every seed.

    A number that is not finite becomes null.
    """
    text = json.dumps(_finite(asdict(result)), indent=1, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
