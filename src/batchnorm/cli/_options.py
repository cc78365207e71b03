"""Options that commands on a model share: where it comes from, where results go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["NOWHERE", "NO_REPORT", "Output", "Report", "Source"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """Which model.

    Args:
        model: Function that makes the model: pkg.mod:name.
        checkpoint: Its weights (.safetensors, .pt); else those that the function gives it.
        key: Name of the weights in a file that holds more.
        device: Where to compute: cpu, cuda.
    """

    model: str
    checkpoint: Path | None = None
    key: str | None = None
    device: str = "cpu"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Report:
    """Where the report goes.

    Args:
        report: JSON file for the report.
        force: Replace files that are there.
    """

    report: Path | None = None
    force: Annotated[bool, Parameter(negative=())] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output(Report):
    """Where the results go.

    Args:
        out: File for the weights (.safetensors, .pt); without it nothing but the report is made.
    """

    out: Path | None = None


NO_REPORT, NOWHERE = Report(), Output()
