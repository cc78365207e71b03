"""What datasets there are, and where."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ._catalogue import CATALOGUE, Entry
from ._find import entry_of, files_of, wanted_files

__all__ = ["overview"]


def overview(folder: Path | None = None, names: Iterable[str] = ()) -> pl.DataFrame:
    """A row per dataset: what it is, where it was found, what would do, its licence.

    Args:
        folder: where files may lie.
        names: some; all by default.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> overview(names=["digits"])["where"].item()
        'scikit-learn'
    """
    chosen = {name: entry_of(name) for name in names} or CATALOGUE

    return pl.DataFrame([_row(name, entry, folder) for name, entry in chosen.items()])


def _row(name: str, entry: Entry, folder: Path | None) -> dict[str, object]:
    return {
        "name": name,
        "title": entry.title,
        "kind": entry.kind,
        "shape": "×".join("L" if size < 0 else str(size) for size in entry.wanted.shape),
        "classes": entry.wanted.classes,
        "train": entry.sizes[0],
        "test": entry.sizes[1],
        "where": _where(entry, folder),
        "files": None if entry.made else wanted_files(entry),
        "download": entry.hub is not None,
        "origin": entry.origin,
        "licence": entry.licence,
    }


def _where(entry: Entry, folder: Path | None) -> str | None:
    if entry.made:
        return "scikit-learn"
    found = files_of(entry, folder)

    return None if found is None else str(found[1][0])
