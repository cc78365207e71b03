"""Writes the tables between their markers in docs/performance.md and the README."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.results import Results
from benchmarks.table_ops import losing_table, ops_table, summary_table
from benchmarks.table_parts import memory_table, nets_table, overhead_table
from benchmarks.table_readme import readme_table
from benchmarks.table_variants import variants_table

__all__ = ["render", "replace_between"]


def render(results: Results, root: Path = ROOT) -> list[Path]:
    """Write the tables between their markers; returns the files that changed."""
    blocks = {
        "docs/performance.md": {
            "bench-summary": summary_table,
            "bench-losing": losing_table,
            "bench-ops": ops_table,
            "bench-overhead": overhead_table,
            "bench-nets": nets_table,
            "bench-memory": memory_table,
            "bench-variants": variants_table,
        },
        "README.md": {"bench": readme_table},
    }
    return [
        root / name for name, makers in blocks.items() if _rewrite(root / name, makers, results)
    ]


def _rewrite(path: Path, makers: dict[str, Callable[[Results], str]], results: Results) -> bool:
    if not path.exists():
        return False
    before = text = path.read_text()
    for name, make in makers.items():
        text = replace_between(text, name, make(results))
    if text != before:
        path.write_text(text)
    return text != before


def replace_between(text: str, name: str, content: str) -> str:
    """``text`` with the part between the markers of ``name`` replaced; unchanged without them."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if start not in text or end not in text:
        return text
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    return f"{before}{start}\n\n{content.strip()}\n\n{end}{after}"
