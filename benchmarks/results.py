"""A results folder, and how its rows are named in text."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rows import Row, sides
from benchmarks.store import load
from benchmarks.summary import speed_up
from benchmarks.words import shape_text, speed

__all__ = [
    "LAYOUTS",
    "MISSING",
    "Results",
    "copies_text",
    "form_text",
    "header_line",
    "mark",
    "mib_text",
    "over",
    "read_results",
    "row_name",
]

PARTS = ("ops", "overhead", "nets", "memory", "variants")
MISSING = "Not measured yet: `make bench`."
LAYOUTS = {"contiguous": "NCHW", "channels_last": "NHWC"}


@dataclass
class Results:
    """Header, rows and completeness of each part that was measured."""

    headers: dict[str, Row] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    complete: dict[str, bool] = field(default_factory=dict)


def read_results(folder: Path) -> Results:
    """What lies in a results folder."""
    results = Results()
    for part in PARTS:
        content = load(folder / f"{part}.json")
        if content is not None:
            results.headers[part] = content["header"]
            results.rows[part] = content["rows"]
            results.complete[part] = content["complete"]
    return results


def header_line(results: Results, part: str) -> str:
    head = results.headers[part]
    line = (
        f"{head['cpu']}, {head['cores']} cores, {head['isa']}; {head['threads']} threads; "
        f"torch {head['torch']}, kernels: {head['kernels']}; commit {head['commit']}, "
        f"{head['date']}."
    )
    if not results.complete[part]:
        line += " **Not complete: the run was cut short or filtered.**"
    return line


def copies_text(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def row_name(row: Row) -> str:
    layout = f" {LAYOUTS[row['layout']]}" if len(row["shape"]) > 3 else ""
    return f"{mark(row)}{shape_text(row['shape'])}{layout} {row['dtype']} {form_text(row['form'])}"


def mark(row: Row) -> str:
    """A sign on rows without enough calm rounds."""
    return "~" if row.get("noisy") else ""


def form_text(form: str) -> str:
    return form.replace("residual_relu", "residual+relu")


def over(row: Row, peer: str) -> str:
    return speed(speed_up(row, peer)) if peer in sides(row) else "–"


def mib_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
