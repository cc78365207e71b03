"""Reports as JSON."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from ..surgery import SurgeryReport

__all__ = ["as_json"]


def as_json(value: Any) -> Any:
    """What ``json.dumps`` takes: fields by name, tensors as lists; a number not finite is null."""
    if isinstance(value, SurgeryReport):
        named = {"changes": value.changes, "proofs": value.proofs}
        return as_json(named)
    if is_dataclass(value):
        names = [field.name for field in fields(value) if not field.name.startswith("_")]
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, Tensor):
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None

    return value
