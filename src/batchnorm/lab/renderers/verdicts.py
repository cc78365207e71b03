"""Experiments in the terminal."""

from statistics import fmean

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._study import Study
from .console import MARKS, STYLES

__all__ = ["show", "show_list", "show_scores"]


def show(study: Study, console: Console) -> None:
    """Print the claims of an experiment with their verdicts."""
    seeds = f"{study.grid.seeds} seeds" if study.grid.seeds > 1 else "one seed"
    data = ", ".join(study.datasets.values())
    console.print(Text(study.experiment.title, "bold"), Text(f"({seeds}; {data})", "dim"))
    verdicts = Table.grid(padding=(0, 1))
    for claim in study.claims:
        style = f"bold {STYLES[claim.verdict]}"
        verdicts.add_row(
            Text(MARKS[claim.verdict], style),
            Text(claim.verdict, style),
            Text(claim.statement, "bold").append(f"\n{claim.evidence}\n", "not bold"),
        )
    console.print(verdicts)
    for name, reason in study.left_out.items():
        console.print(Text(f"Without {name}: {reason}\n", "dim"))


def show_list(experiments: pl.DataFrame, console: Console) -> None:
    """Print what experiments there are and how long they take."""
    table = Table("name", "what", "claims", "smoke", "default", "full")
    for row in experiments.iter_rows(named=True):
        times = (_time(row[budget]) for budget in ("smoke", "default", "full"))
        table.add_row(row["name"], row["title"], str(len(row["claims"])), *times)
    console.print(table)
    console.print("Times are for two cores.", style="dim")


def show_scores(study: Study, console: Console) -> None:
    """Print the mean score of every arm at every learning rate of a comparison."""
    rates = study.grid.settings["lr"]
    table = Table("norm", *(f"rate {rate:g}" for rate in rates))
    for arm, label in study.experiment.arms.items():
        of_rates = (study.trials.filter(arm=arm, lr=rate)["score"] for rate in rates)
        table.add_row(label, *(f"{fmean(scores):.4g}" for scores in of_rates))
    console.print(table)


def _time(seconds: float) -> str:
    """About how long."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"
