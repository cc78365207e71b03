"""Markdown of the variants: each against the plain layer and the best way in torch."""

from benchmarks.results import MISSING, Results, header_line, mark, mib_text
from benchmarks.rows import Row, milliseconds, ratio
from benchmarks.summary import best_public, speed_up, trusted
from benchmarks.words import geometric_mean, markdown, milliseconds_text, shape_text, speed, spread

__all__ = ["variants_table"]

_HEAD = (
    "Variant", "Row", "Best way in torch", "ours ms", "speed-up (quartiles)", "forward", "backward",
    "times plain", "ours MiB", "torch MiB", "plain MiB",
)  # fmt: skip


def variants_table(results: Results) -> str:
    """A means line, and every row with the public way that was fastest in it."""
    rows = results.rows.get("variants", [])
    if "variants" not in results.rows:
        return MISSING
    table = markdown(_HEAD, [_line(row) for row in rows], text_columns=3)
    return f"{header_line(results, 'variants')}\n\n{_means(rows)}\n\n{table}"


def _means(rows: list[Row]) -> str:
    speeds = [speed_up(row, best_public(row)) for row in trusted(rows)]
    losses = sum(value < 1 for value in speeds)
    return (
        f"Geometric mean of {len(speeds)} rows over the best way in torch: "
        f"{speed(geometric_mean(speeds))}; rows in which that way is faster: {losses}."
    )


def _line(row: Row) -> tuple[str, ...]:
    name = f"{mark(row)}{row['variant']}", f"{shape_text(row['shape'])} {row['detail']}"
    if row["status"] != "ok":
        return (*name, row["status"], *["–"] * (len(_HEAD) - 3))
    best = best_public(row)
    peaks = row["peak_mib"]
    return (
        *name,
        best,
        milliseconds_text(milliseconds(row, "ours").median),
        spread(ratio(row, best, "ours")),
        speed(speed_up(row, best, "forward")),
        speed(speed_up(row, best, "backward")),
        f"{ratio(row, 'ours', 'plain').median:.2f}",
        *(mib_text(peaks[side]) for side in ("ours", best, "plain")),
    )
