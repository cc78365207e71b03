"""For code scanning: SARIF 2.1.0."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from .._rule import all_rules
from .json import plain

if TYPE_CHECKING:
    from .._diagnosis import Diagnosis
    from .._finding import Finding

__all__ = ["render"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(diagnosis: Diagnosis) -> str:
    """One run; a finding is at its layer (logical) and at the class that holds it (physical).

    Source: OASIS, Static Analysis Results Interchange Format 2.1.0.
    """
    seen = {finding.code for finding in diagnosis.findings}
    rules = [rule for rule in all_rules() if rule.code in seen]
    numbers = {rule.code: number for number, rule in enumerate(rules)}
    driver = {"name": "batchnorm doctor", "rules": [_rule(rule) for rule in rules]}
    notes = [
        {
            "level": "error" if skip.failed else "note",
            "message": {"text": f"{skip.code}: {skip.reason}"},
            "associatedRule": {"id": skip.code},
        }
        for skip in diagnosis.skipped
    ]
    run = {
        "tool": {"driver": driver},
        "invocations": [
            {
                "executionSuccessful": not any(skip.failed for skip in diagnosis.skipped),
                "toolExecutionNotifications": notes,
            }
        ],
        "results": [_result(diagnosis, finding, numbers) for finding in diagnosis.findings],
    }

    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [run],
        },
        indent=2,
        allow_nan=False,
    )


def _rule(rule: Any) -> dict[str, Any]:
    page = inspect.getdoc(type(rule)) or ""
    title, _, rest = page.partition("\n\n")

    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": title},
        "help": {"text": rest, "markdown": rest},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(diagnosis: Diagnosis, finding: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    place = diagnosis.place_of(finding)
    name = finding.path or "(model)"
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": name}]}
    if place is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": place.relative},
            "region": {"startLine": place.line},
        }
    key = hashlib.sha256(f"{finding.code}:{finding.path}".encode()).hexdigest()

    return {
        "ruleId": finding.code,
        "ruleIndex": numbers[finding.code],
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{name}: {finding.message}. {finding.remedy}."},
        "locations": [location],
        "partialFingerprints": {"batchnormFinding/v1": key},
        "properties": plain({"measured": finding.measured, "fixable": finding.fixable}),
    }
