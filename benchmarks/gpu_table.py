"""The GPU's numbers as lines and as the table of docs/gpu.md."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

__all__ = ["line", "summary", "table", "write"]

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- bench-gpu:start -->", "<!-- bench-gpu:end -->"
PARTS = ("forward", "backward", "both")
Row = dict[str, Any]


def _median(row: Row, part: str, side: str) -> float | None:
    quartiles = row["ms"][part].get(side)
    return quartiles[1] if quartiles else None


def _rivals(row: Row, part: str) -> dict[str, float]:
    found = {side: _median(row, part, side) for side in ("eager", "native", "compile")}
    return {side: ms for side, ms in found.items() if ms is not None}


def speed_up(row: Row, part: str) -> float:
    """The best of torch's ways over ours."""
    return min(_rivals(row, part).values()) / _median(row, part, "ours")


def of_copy(row: Row, part: str) -> float:
    """Share of the copy's bandwidth that the necessary reads and writes are served with."""
    passes = row["passes"]
    needed = passes[part] if part in passes else passes["forward"] + passes["backward"]
    return _median(row, part, "copy") * needed / 2 / _median(row, part, "ours")


def line(row: Row) -> str:
    """One finished row."""
    if row["status"] != "ok":
        return f"{row['key']}: {row['status']} {row.get('errors', '')}"
    cells = [
        f"{part} {_median(row, part, 'ours'):.3f} ms, {speed_up(row, part):.2f}x, "
        f"{of_copy(row, part):.0%} of copy"
        for part in PARTS
    ]
    return f"{row['key']}: " + " | ".join(cells)


def summary(found: Row) -> list[str]:
    """Geometric means, the slowest rows, and what is missing."""
    rows = [row for row in found["rows"] if row["status"] == "ok"]
    lines = [f"{len(rows)} of {len(found['rows'])} rows measured"]
    missing = sum("compile" not in row["ms"]["both"] for row in rows)
    if missing:
        lines.append(f"{missing} of them without torch.compile: --compile-seconds was over")
    for part in PARTS:
        if rows:
            values = [speed_up(row, part) for row in rows]
            slowest = min(rows, key=lambda row, part=part: speed_up(row, part))
            lines.append(
                f"{part}: {_geometric(values):.2f}x the best of torch, least "
                f"{min(values):.2f}x at {slowest['key']}"
            )
    for net in found["nets"]:
        peak = "" if net["peak_mib"] is None else f", peak {net['peak_mib']:.0f} MiB"
        lines.append(f"{net['net']} {net['side']}: {net['ms'][1]:.2f} ms{peak}")
    return lines


def _geometric(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def table(found: Row) -> str:
    """Markdown: the machine, one line per row, the network."""
    head = found["header"]
    names = ("gpu", "driver", "cuda", "cudnn", "torch", "commit", "date")
    lines = [", ".join(f"{name} {head.get(name, '-')}" for name in names), ""]
    lines += [f"- {text}" for text in summary(found)]
    lines += [
        "",
        "| row | forward | backward | both | peak MiB ours / eager |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        if row["status"] != "ok":
            lines.append(f"| {row['key']} | {row['status']} | | | |")
            continue
        cells = [f"{speed_up(row, part):.2f}x, {of_copy(row, part):.0%}" for part in PARTS]
        peaks = " / ".join(
            "-" if row["peak_mib"][side] is None else f"{row['peak_mib'][side]:.0f}"
            for side in ("ours", "eager")
        )
        lines.append(f"| {row['key']} | {' | '.join(cells)} | {peaks} |")
    lines += ["", "Each cell: the best of torch's ways over ours; share of a copy's bandwidth."]
    return "\n".join(lines)


def write(found: Row, page: Path = PAGE) -> Path:
    """Put the table between the markers of the page.

    Raises:
        ValueError: the page has no markers.
    """
    text = page.read_text("utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page}: the table goes between {BEGIN} and {END}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", "utf-8")
    return page
