"""Fill the tables of docs/sync.md: ``python -m benchmarks.sync_docs``."""

import re

from benchmarks.machine import ROOT
from benchmarks.sync_cost import layer_table, table
from benchmarks.sync_points import header_line, merge_table, points_table

__all__ = ["PAGE", "filled"]

PAGE = ROOT / "docs" / "sync.md"


def filled(text: str) -> str:
    """The page with today's model and results between its marks."""
    parts = {
        "layer": layer_table(),
        "step": table(),
        "points": f"{points_table()}\n\n{header_line()}.",
        "merge": merge_table(),
    }
    for name, part in parts.items():
        start, end = f"<!-- {name} table -->", "<!-- end -->"
        block = re.compile(f"{start}.*?{end}", re.DOTALL)
        assert block.search(text), f"{PAGE.name} has no {start}"
        text = block.sub(f"{start}\n\n{part}\n\n{end}", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
