"""The end of a run in the terminal."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..claims import Verdict
from ..demo import Result
from . import tables

__all__ = ["MARKS", "show"]

MARKS: dict[Verdict, str] = {"holds": "✔", "fails": "✘", "undecided": "?"}
STYLES: dict[Verdict, str] = {"holds": "green", "fails": "red", "undecided": "yellow"}


def show(result: Result, console: Console) -> None:
    """Print the tables and the verdicts."""
    for table in (tables.accuracy(result), tables.summary(result)):
        console.print(_rich(table))
        console.print()
    verdicts = RichTable.grid(padding=(0, 1))
    for claim in result.claims:
        style = f"bold {STYLES[claim.verdict]}"
        verdicts.add_row(
            Text(MARKS[claim.verdict], style),
            Text(claim.verdict, style),
            Text(claim.statement, "bold").append(f"\n{claim.evidence}\n", "not bold"),
        )
    console.print(verdicts)


def _rich(table: tables.Table) -> RichTable:
    drawn = RichTable(title=table.caption, title_justify="left", title_style="bold")
    for i, head in enumerate(table.head):
        drawn.add_column(head, justify="left" if i == 0 else "right")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
