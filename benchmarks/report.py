"""What the terminal shows: a line a row, and the summary at the end."""

import math
from collections.abc import Iterator

from benchmarks.results import Results
from benchmarks.rows import Row, milliseconds, ratio, sides
from benchmarks.summary import best_public, speed_up, summarise, trusted
from benchmarks.words import geometric_mean

__all__ = ["row_line", "summary_lines"]


def row_line(part: str, row: Row) -> str:
    """Speed-ups of one row, its raw time and what was dropped."""
    start = f"{part:9}{row['key']:44}"
    if row["status"] != "ok":
        return f"{start} {row['status'].upper()}: {_last_line(row['reason'])}"
    peers = [side for side in sides(row) if side not in ("ours", "copy", "clone")]
    speeds = "  ".join(f"{peer} {ratio(row, peer, 'ours').median:.2f}x" for peer in peers)
    noisy = "  NOISY" if row["noisy"] else ""
    rounds = f"calm rounds {row['calm']} of {row['rounds']}"
    return f"{start} ours {milliseconds(row, 'ours').median:.4g} ms  {speeds}  {rounds}{noisy}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def summary_lines(results: Results) -> Iterator[str]:
    """The headlines of the operator rows and of the variants."""
    if results.rows.get("ops"):
        yield from _ops_lines(results)
    if results.rows.get("variants"):
        yield from _variants_lines(results)


def _variants_lines(results: Results) -> Iterator[str]:
    rows = results.rows["variants"]
    good = trusted(rows)
    speeds = [speed_up(row, best_public(row)) for row in good]
    bad = sum(row["status"] != "ok" for row in rows)
    yield ""
    yield (
        f"variants over the best way in torch, geometric mean: {_number(geometric_mean(speeds))}x; "
        f"rows: {len(rows)}, slower {sum(value < 1 for value in speeds)}, wrong or failed {bad}, "
        f"without enough calm rounds {len(rows) - bad - len(good)}"
    )


def _ops_lines(results: Results) -> Iterator[str]:
    found = summarise(results.rows["ops"])
    yield ""
    yield (
        f"forward + backward, geometric mean: {_number(found.over_eager)}x eager, "
        f"{_number(found.over_eager_inplace)}x eager in place, "
        f"{_number(found.over_compile)}x torch.compile"
    )
    yield (
        f"rows: {found.rows}; wrong {len(found.wrong)}, failed {len(found.failed)}; slower than "
        f"eager {len(found.slower_than_eager)}, than eager in place "
        f"{len(found.slower_than_eager_inplace)}, than torch.compile "
        f"{len(found.slower_than_compile)}"
    )
    yield (
        f"beyond 32 MiB: forward {_number(found.forward_copies_beyond_cache)} copies, "
        f"backward {_number(found.backward_copies_beyond_cache)} copies"
    )
    yield (
        f"rounds in which others used the machine: {found.stalled} of {found.rounds}; "
        f"rows without enough calm rounds: {len(found.noisy)}"
    )
