"""Experiments in the terminal."""

from statistics import fmean
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._ranking import in_words, ranking
from .._study import Study
from .console import MARKS, STYLES

__all__ = ["show", "show_list", "show_ranking", "show_scores"]

SHOWN = 8  # combinations that are named


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
    """Print the mean scores of a comparison, by norm and batch size, at every learning rate."""
    rates, sizes = (study.grid.settings[name] for name in ("lr", "batch_size"))
    table = Table("norm", "batch size", *(f"rate {rate:g}" for rate in rates))
    for arm, label in study.experiment.arms.items():
        for size in sizes:
            trials = study.trials.filter(arm=arm, batch_size=size)
            if len(trials):
                of_rates = (trials.filter(lr=rate)["score"] for rate in rates)
                table.add_row(label, f"{size}", *(f"{fmean(scores):.4g}" for scores in of_rates))
    console.print(table)


def show_ranking(study: Study, console: Console) -> None:
    """Print the best combination of a comparison, and which are not worse."""
    best, *others = ranking(study).rows(named=True)
    within = f"95 % interval {best['low']:.3g} to {best['high']:.3g}"
    if study.grid.seeds == 1:
        within = "one seed: no interval"
    console.print(Text("Best: ", "bold"), _combination(best), f"({within})", soft_wrap=True)
    equal = [_combination(row) for row in others if not row["worse"]]
    shown = "; ".join(equal[:SHOWN])
    more = f"; and {len(equal) - SHOWN} more" if len(equal) > SHOWN else ""
    text = (
        f"Not worse, as far as the seeds tell: {shown}{more}" if equal else "All others are worse"
    )
    console.print(f"{text}.", soft_wrap=True)


def _combination(row: dict[str, Any]) -> str:
    """One row of a ranking in words."""
    return f"{in_words(row['norm'], row['batch_size'], row['lr'])}: {row['score']:.4g}"


def _time(seconds: float) -> str:
    """About how long."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"
