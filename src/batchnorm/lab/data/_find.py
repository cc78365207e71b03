"""Where datasets lie."""

from pathlib import Path

from ..._errors import explain
from ._cache import cache_folder
from ._catalogue import CATALOGUE, Entry
from ._raw import Source

__all__ = ["downloads", "entry_of", "files_of", "is_there", "wanted_files"]


def entry_of(name: str) -> Entry:
    """What the catalogue says.

    Raises:
        ValueError: there is no such dataset.
    """
    if name not in CATALOGUE:
        cure = f"Use one of {', '.join(CATALOGUE)}"
        raise ValueError(explain("load", "the dataset must be known", repr(name), cure))

    return CATALOGUE[name]


def is_there(name: str, folder: Path | None = None) -> bool:
    """Whether :func:`batchnorm.lab.data.load` finds it."""
    entry = entry_of(name)

    return entry.made is not None or files_of(entry, folder) is not None


def downloads() -> Path:
    """The folder of what was downloaded."""
    return cache_folder() / "downloads"


def files_of(entry: Entry, folder: Path | None) -> tuple[Source, tuple[Path, ...]] | None:
    """Where a dataset lies: in the folder, or else among what was downloaded."""
    for place in filter(None, (folder, downloads())):
        for source in entry.sources:
            paths = source.find(place)
            if paths is not None:
                return source, paths

    return None


def wanted_files(entry: Entry) -> str:
    """What may lie in a folder, in words."""
    return ", or ".join(source.named for source in entry.sources)
