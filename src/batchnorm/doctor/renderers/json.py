"""For programs: one JSON object."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .._diagnosis import Diagnosis
    from .._finding import Finding

__all__ = ["plain", "render"]

FORMAT = 1


def render(diagnosis: Diagnosis) -> str:
    """``findings``, ``fixed``, ``skipped``, ``suppressed``, ``rules`` and ``exit_code``.

    Numbers that JSON does not know are strings: ``"nan"``, ``"inf"``, ``"-inf"``.
    """
    return json.dumps(
        {
            "format": FORMAT,
            "exit_code": diagnosis.exit_code,
            "rules": diagnosis.rules,
            "suppressed": diagnosis.suppressed,
            "findings": [_finding(diagnosis, finding) for finding in diagnosis.findings],
            "fixed": [
                {
                    **_finding(diagnosis, fixed.finding),
                    "proofs": [plain(asdict(proof)) for proof in fixed.report.proofs],
                }
                for fixed in diagnosis.fixed
            ],
            "skipped": [asdict(skip) for skip in diagnosis.skipped],
        },
        indent=2,
        allow_nan=False,
    )


def _finding(diagnosis: Diagnosis, finding: Finding) -> dict[str, Any]:
    place = diagnosis.place_of(finding)
    where = {} if place is None else {"file": str(place.file), "line": place.line}

    return {**plain(asdict(finding)), **where}


def plain(value: Any) -> Any:
    """A value in the types of JSON.

    Example:
        >>> plain({"mean": torch.tensor([1.0, float("nan")])})
        {'mean': [1.0, 'nan']}
    """
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value

    return str(value)
