"""Datasets in the terminal."""

from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data import DATA_VARIABLE, Dataset

__all__ = ["show_checked", "show_datasets"]


def show_datasets(datasets: pl.DataFrame, console: Console) -> None:
    """Print what there is and where, and what would do for the rest."""
    table = Table("name", "train", "test", "of", "where", "licence", box=None, padding=(0, 1))
    for row in datasets.iter_rows(named=True):
        found = row["where"]
        table.add_row(
            row["name"],
            f"{row['train']:,}",
            f"{row['test']:,}",
            row["shape"],
            Path(found).name if found else Text("not there", "yellow"),
            row["licence"],
        )
    console.print(table)
    for row in datasets.filter(pl.col("where").is_null()).iter_rows(named=True):
        fetch = ", or --download" if row["download"] else ""
        console.print(
            f"{row['name']}: {row['files']} in a folder that --data or {DATA_VARIABLE} names, "
            f"from {row['origin']}{fetch}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )


def show_checked(data: Dataset, console: Console) -> None:
    """Print what was read."""
    shape = "×".join(map(str, data.shape))
    console.print(
        f"{data.name} is whole: {len(data.x_train):,} and {len(data.x_test):,} examples of {shape}."
        f"\n{data.preparation[0].upper()}{data.preparation[1:]}.\n",
        highlight=False,
    )
