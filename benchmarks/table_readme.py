"""Markdown of the README: means, the worst row, the small call and whole nets."""

from benchmarks.results import MISSING, Results, header_line, over, row_name
from benchmarks.rows import Row, sides
from benchmarks.summary import speed_up, summarise, trusted
from benchmarks.words import geometric_mean, markdown, speed

__all__ = ["readme_table"]

_UNTRUSTED = "The machine was too busy for a row to be trusted: `make bench BENCH_ARGS=--resume`."


def readme_table(results: Results) -> str:
    """Means, also by layout and dtype, the worst row, the small call and the nets."""
    if "ops" not in results.rows:
        return MISSING
    rows = trusted(results.rows["ops"])
    if not rows:
        return _UNTRUSTED
    found = summarise(results.rows["ops"])
    body = [
        (f"geometric mean of {len(rows)} rows", speed(found.over_eager), speed(found.over_compile)),
        *(_readme_group(rows, layout, dtype) for layout, dtype in _groups(rows)),
    ]
    worst = min(rows, key=lambda row: speed_up(row, "eager"))
    worst_speed = speed(speed_up(worst, "eager"))
    body.append((f"worst row: {row_name(worst)}", worst_speed, over(worst, "compile")))
    body += [*_small_call(results), *_whole_nets(results)]
    head = ("Forward + backward", "over eager", "over torch.compile")
    losses = (
        f"Rows slower than eager: {len(found.slower_than_eager)}; "
        f"than torch.compile: {len(found.slower_than_compile)}."
    )
    if found.noisy:
        losses += f" {len(found.noisy)} rows had too few calm rounds and do not count."
    return f"{markdown(head, body)}\n\n{losses} {header_line(results, 'ops')}"


def _small_call(results: Results) -> list[tuple[str, str, str]]:
    return [
        ("tiny (8, 16, 4, 4) relu, 1 thread", speed(speed_up(row, "eager")), "–")
        for row in trusted(results.rows.get("overhead", []))
        if (row["form"], row["mode"]) == ("relu", "train")
    ]


def _whole_nets(results: Results) -> list[tuple[str, str, str]]:
    return [
        (f"whole {row['net']} step, NHWC", speed(speed_up(row, "eager")), "–")
        for row in trusted(results.rows.get("nets", []))
        if (row["layout"], row["pages"]) == ("channels_last", "default")
    ]


def _groups(rows: list[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["layout"], row["dtype"]) for row in rows))


def _readme_group(rows: list[Row], layout: str, dtype: str) -> tuple[str, str, str]:
    group = [row for row in rows if (row["layout"], row["dtype"]) == (layout, dtype)]
    compiled = [row for row in group if "compile" in sides(row)]
    return (
        f"{layout.replace('_', ' ')}, {dtype} ({len(group)})",
        speed(geometric_mean(speed_up(row, "eager") for row in group)),
        speed(geometric_mean(speed_up(row, "compile") for row in compiled)),
    )
