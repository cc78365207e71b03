"""The folder with data that the user named."""

import os
from pathlib import Path

from ..._errors import explain

__all__ = ["DATA_VARIABLE", "data_folder"]

DATA_VARIABLE = "BATCHNORM_DATA"


def data_folder(option: Path | None = None) -> Path | None:
    """The folder that the user named, by option or else by ``BATCHNORM_DATA``, or None.

    Raises:
        ValueError: the name is given but no such folder exists.
    """
    source = "--data" if option is not None else DATA_VARIABLE
    named = option if option is not None else os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        cure = f"Name the folder that holds the files, or leave {source} out"
        raise ValueError(explain(source, "the data folder must exist", f"{folder}", cure))

    return folder
