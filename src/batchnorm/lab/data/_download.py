"""Datasets from the Hugging Face Hub, by its own library: it resumes, and keeps whole files."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..._errors import explain
from .._whole import write_whole
from ._cache import saver
from ._catalogue import Entry, Hub
from ._find import downloads, entry_of, wanted_files
from ._folder import DATA_VARIABLE
from ._pictures import decoded
from ._raw import Parts, Raw

__all__ = ["download"]


def download(name: str) -> Path:
    """Fetch a dataset, check it, and keep it where :func:`batchnorm.lab.data.load` finds it.

    Returns:
        The file, ``NAME.npz`` in the folder ``downloads`` of the cache.

    Raises:
        ValueError: it is not on the Hub, or what came is not the published dataset.
        RuntimeError: the library ``datasets`` is not installed.
        ConnectionError: the Hub cannot be reached.
    """
    entry = entry_of(name)
    if entry.hub is None:
        raise ValueError(explain(name, "it must be on the Hub", "none there", _by_hand(entry)))
    parts = _fetched(name, entry, entry.hub)
    _check(name, entry, entry.hub, parts)
    target = downloads() / f"{name}.npz"
    keys = ("x_train", "y_train", "x_test", "y_test")
    arrays = (array for raw in parts for array in (raw.x, raw.y))
    write_whole(target, saver(dict(zip(keys, arrays, strict=True))))

    return target


def _fetched(name: str, entry: Entry, hub: Hub) -> Parts:
    found = _files(name, entry, hub)
    columns = found["train"].column_names
    if not {hub.image, "label"} <= set(columns):
        rule = f"{hub.repository} must have the columns {hub.image} and label"
        raise ValueError(explain(name, rule, ", ".join(columns), _by_hand(entry)))

    return _raw(hub, found["train"]), _raw(hub, found["test"])


def _files(name: str, entry: Entry, hub: Hub) -> Any:
    """The tables ``train`` and ``test``."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        rule = "the library that downloads must be installed"
        cure = "Install it with: pip install 'batchnorm[lab,download]'"
        raise RuntimeError(explain(name, rule, "no datasets", cure)) from error
    files = {part: f"{hub.place}/{part}-*" for part in ("train", "test")}
    try:
        # Its own checks are of all files of a repository; these are some.
        return load_dataset(hub.repository, data_files=files, verification_mode="no_checks")
    except Exception as error:  # of its own, of the Hub's client, of the client's client
        rule = f"https://huggingface.co/datasets/{hub.repository} must be in reach"
        got = f"{type(error).__name__}: {error}".rstrip(".")
        cure = f"Try again: files that have come are kept. {_by_hand(entry)}"
        raise ConnectionError(explain(name, rule, got, cure)) from error


def _raw(hub: Hub, table: Any) -> Raw:
    from datasets import Image

    cells = table.cast_column(hub.image, Image(decode=False))[hub.image]

    return Raw(
        decoded(hub.repository, (cell["bytes"] for cell in cells)),
        np.array(table["label"][:], np.uint8),
    )


def _check(name: str, entry: Entry, hub: Hub, parts: Parts) -> None:
    entry.wanted.check(hub.repository, parts)
    sizes = tuple(map(len, parts))
    if sizes != entry.sizes:
        rule = "it must have {:,} and {:,} examples".format(*entry.sizes)
        raise ValueError(explain(name, rule, "{:,} and {:,}".format(*sizes), _by_hand(entry)))
    digest = hashlib.sha256()
    for raw in parts:
        digest.update(raw.x.tobytes() + raw.y.tobytes())
    if hub.sha256 and digest.hexdigest() != hub.sha256:
        rule = f"SHA-256 of its arrays must be {hub.sha256[:16]}…"
        raise ValueError(explain(name, rule, f"{digest.hexdigest()[:16]}…", _by_hand(entry)))


def _by_hand(entry: Entry) -> str:
    if entry.made:
        return "It comes with scikit-learn: nothing is missing"
    where = f"into a folder that --data or {DATA_VARIABLE} names"

    return f"Put {wanted_files(entry)} {where}, from {entry.origin}"
