"""For GitHub Actions: one workflow command per finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._diagnosis import Diagnosis
    from .._finding import Finding

__all__ = ["render"]

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(diagnosis: Diagnosis) -> str:
    """Annotations, at the class that holds the layer where its source is at hand.

    Source: GitHub, "Workflow commands for GitHub Actions": setting a warning message.
    """
    return "\n".join(_annotation(diagnosis, finding) for finding in diagnosis.findings)


def _annotation(diagnosis: Diagnosis, finding: Finding) -> str:
    place = diagnosis.place_of(finding)
    options = {"title": f"{finding.code} {finding.name}"}
    if place is not None:
        options = {"file": place.relative, "line": str(place.line), **options}
    listed = ",".join(f"{name}={_property(value)}" for name, value in options.items())
    text = f"{finding.path or '(model)'}: {finding.message}. {finding.remedy}."

    return f"::{_LEVELS[finding.severity]} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
