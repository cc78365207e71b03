"""``batchnorm lab data``."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from ._extras import missing_extra
from ._guard import FAILED

__all__ = ["lab_data"]


def lab_data(
    *names: str,
    data: Path | None = None,
    download: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List datasets: where they are, what is missing, what licence they have.

    With names these alone, read and checked.

    Args:
        names: Datasets; all of them by default.
        data: Folder with datasets; else the environment variable BATCHNORM_DATA.
        download: Fetch what is not there, where the network allows.
    """
    if message := missing_extra("lab", "batchnorm lab data"):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab.data import data_folder, overview

    try:
        folder = data_folder(data)
        chosen = tuple(overview(folder, names)["name"])
    except ValueError as error:
        print(f"batchnorm lab data: {error}", file=sys.stderr)
        return FAILED
    console = Console()
    right = _downloaded(chosen, folder, bool(names)) if download else True
    from ..lab.renderers.datasets import show_datasets

    show_datasets(overview(folder, chosen), console)
    if names:
        right = _checked(names, folder, console) and right

    return 0 if right else FAILED


def _downloaded(names: tuple[str, ...], folder: Path | None, all_of_them: bool) -> bool:
    """Fetch those that are not there; without all, those that can be."""
    from ..lab.data import CATALOGUE, download, is_there

    right = True
    for name in names:
        if is_there(name, folder) or not (all_of_them or CATALOGUE[name].hub):
            continue
        try:
            download(name)
        except (OSError, ValueError, RuntimeError) as error:
            print(f"batchnorm lab data: {error}", file=sys.stderr)
            right = False

    return right


def _checked(names: tuple[str, ...], folder: Path | None, console: Console) -> bool:
    from ..lab.data import load
    from ..lab.renderers.datasets import show_checked

    right = True
    for name in names:
        try:
            show_checked(load(name, folder), console)
        except (OSError, ValueError) as error:
            print(f"batchnorm lab data: {error}", file=sys.stderr)
            right = False

    return right
