"""Markdown of the operator rows: the summary, the losing rows, and all of them."""

from benchmarks.results import MISSING, Results, copies_text, header_line, over, row_name
from benchmarks.rows import Row, milliseconds, ratio, sides
from benchmarks.summary import BEYOND_CACHE_MIB, copies, measured, speed_up, summarise
from benchmarks.words import markdown, milliseconds_text, speed, spread

__all__ = ["losing_table", "ops_table", "summary_table"]

_PICTURE = (
    "![Speed-up of every row over eager torch and torch.compile, "
    "on a logarithmic scale with a line at one](images/benchmarks.svg)"
)


def summary_table(results: Results) -> str:
    if "ops" not in results.rows:
        return MISSING
    found = summarise(results.rows["ops"])
    beyond = f"beyond {BEYOND_CACHE_MIB} MiB, in copies"
    lines = [
        ("Rows", str(found.rows)),
        ("Rows with a wrong result (never timed)", str(len(found.wrong))),
        ("Rows that failed", str(len(found.failed))),
        ("Speed-up over eager torch, geometric mean", speed(found.over_eager)),
        ("… over eager with add and ReLU in place", speed(found.over_eager_inplace)),
        ("… over torch.compile", speed(found.over_compile)),
        ("Rows slower than eager", str(len(found.slower_than_eager))),
        ("… than eager in place", str(len(found.slower_than_eager_inplace))),
        ("… than torch.compile", str(len(found.slower_than_compile))),
        (f"Forward {beyond}", copies_text(found.forward_copies_beyond_cache)),
        (f"Backward {beyond}", copies_text(found.backward_copies_beyond_cache)),
        ("Rounds in which others used the machine", f"{found.stalled} of {found.rounds}"),
        ("Rows without enough calm rounds (marked ~, not counted above)", str(len(found.noisy))),
    ]  # fmt: skip
    table = markdown(("Forward + backward", ""), lines)
    return f"{header_line(results, 'ops')}\n\n{table}\n\n{_PICTURE}"


def losing_table(results: Results) -> str:
    """Every row in which some peer is faster than we are, the worst first."""
    losses = [
        (speed_up(row, peer), row, peer)
        for row in measured(results.rows.get("ops", []))
        for peer in ("eager", "eager_inplace", "compile")
        if peer in sides(row) and speed_up(row, peer) < 1
    ]
    bad = [row for row in results.rows.get("ops", []) if row["status"] != "ok"]
    if not losses and not bad:
        return "None." if "ops" in results.rows else MISSING
    body = [
        (row_name(row), _peer(peer), spread(ratio(row, peer, "ours")))
        for _, row, peer in sorted(losses, key=lambda loss: loss[0])
    ]
    body += [(row_name(row), row["status"], row["reason"].splitlines()[-1][:160]) for row in bad]
    return markdown(("Row", "Faster side", "Its time / ours (quartiles)"), body, text_columns=2)


def _peer(peer: str) -> str:
    return {"eager_inplace": "eager in place", "compile": "torch.compile"}.get(peer, peer)


def ops_table(results: Results) -> str:
    if "ops" not in results.rows:
        return MISSING
    head = (
        "Row", "ours ms", "over eager (quartiles)", "forward", "backward", "in place",
        "over compile", "forward copies", "backward copies", "calm rounds",
    )  # fmt: skip
    return markdown(head, [_ops_line(row) for row in results.rows["ops"]])


def _ops_line(row: Row) -> tuple[str, ...]:
    if row["status"] != "ok":
        return (row_name(row), row["status"], *["–"] * 8)
    return (
        row_name(row),
        milliseconds_text(milliseconds(row, "ours").median),
        spread(ratio(row, "eager", "ours")),
        speed(speed_up(row, "eager", "forward")),
        speed(speed_up(row, "eager", "backward")),
        over(row, "eager_inplace"),
        over(row, "compile"),
        copies_text(copies(row, "forward")),
        copies_text(copies(row, "backward")),
        f"{row['calm']} of {row['rounds']}",
    )
