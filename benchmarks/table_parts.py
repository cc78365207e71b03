"""Markdown of the other parts: calls, nets and large tensors."""

from benchmarks.results import (
    LAYOUTS,
    MISSING,
    Results,
    copies_text,
    form_text,
    header_line,
    mark,
    mib_text,
)
from benchmarks.rows import Row, milliseconds, ratio, sides
from benchmarks.summary import copies, measured
from benchmarks.words import markdown, milliseconds_text, spread

__all__ = ["memory_table", "nets_table", "overhead_table"]

_PAGES = {
    "default": "default",
    "huge_pages": "`THP_MEM_ALLOC_ENABLE=1`",
    "keep_pages": "`keep_pages()`",
}


def overhead_table(results: Results) -> str:
    if "overhead" not in results.rows:
        return MISSING
    modes = {"no_grad": "training, no_grad", "eval": "inference", "train": "forward + backward"}
    body = [
        (
            f"{mark(row)}{form_text(row['form'])}, {modes[row['mode']]}",
            *(f"{milliseconds(row, side).median * 1e3:.1f}" for side in ("ours", "eager")),
            spread(ratio(row, "eager", "ours")),
        )
        for row in measured(results.rows["overhead"])
    ]
    head = ("(8, 16, 4, 4), 1 thread", "ours µs", "eager µs", "speed-up (quartiles)")
    return f"{header_line(results, 'overhead')}\n\n{markdown(head, body)}"


def nets_table(results: Results) -> str:
    if "nets" not in results.rows:
        return MISSING
    head = (
        "Net", "pages", "eager ms", "ours ms", "no norm ms", "speed-up (quartiles)",
        "share of batch norm removed", "eager MiB", "ours MiB",
    )  # fmt: skip
    body = [_nets_line(row) for row in measured(results.rows["nets"])]
    return f"{header_line(results, 'nets')}\n\n{markdown(head, body, text_columns=2)}"


def _nets_line(row: Row) -> tuple[str, ...]:
    names = ("eager", "ours", "none")
    return (
        f"{mark(row)}{row['net']} {LAYOUTS[row['layout']]}",
        _PAGES[row["pages"]],
        *(milliseconds_text(milliseconds(row, name).median) for name in names),
        spread(ratio(row, "eager", "ours")),
        f"{_removed(row):.0%}",
        *(mib_text(row["peak_mib"].get(name)) for name in ("eager", "ours")),
    )


def _removed(row: Row) -> float:
    """(eager - ours) / (eager - none): how much of what batch norm costs is gone."""
    eager, mine, none = (milliseconds(row, name).median for name in ("eager", "ours", "none"))
    return (eager - mine) / max(eager - none, 1e-9)


def memory_table(results: Results) -> str:
    if "memory" not in results.rows:
        return MISSING
    body = [
        _memory_line(row, side)
        for row in measured(results.rows["memory"])
        for side in ("eager", "ours", "in_place") if side in sides(row)
    ]  # fmt: skip
    head = (
        "Row", "pages", "forward ms", "backward ms", "forward copies", "backward copies",
        "fresh copy in copies", "page faults", "peak MiB",
    )  # fmt: skip
    return f"{header_line(results, 'memory')}\n\n{markdown(head, body, text_columns=2)}"


def _memory_line(row: Row, side: str) -> tuple[str, ...]:
    return (
        f"{mark(row)}{LAYOUTS[row['layout']]} {form_text(row['form'])}, {side.replace('_', ' ')}",
        _PAGES[row["pages"]],
        milliseconds_text(milliseconds(row, side, "forward").median),
        milliseconds_text(milliseconds(row, side, "backward").median),
        copies_text(copies(row, "forward", side)),
        copies_text(copies(row, "backward", side)),
        copies_text(copies(row, "total", "clone")),
        str(row["faults"][side]),
        mib_text(row["peak_mib"][side]),
    )
