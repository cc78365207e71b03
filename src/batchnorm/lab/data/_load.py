"""Datasets by name."""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..._errors import explain
from ._catalogue import CATALOGUE, Entry
from ._dataset import Dataset
from ._folder import DATA_VARIABLE
from ._prepare import Steps
from ._raw import Parts, Raw, Source
from ._split import some
from ._standard import standardise

__all__ = ["is_there", "load"]


@lru_cache(maxsize=4)
def load(
    name: str,
    folder: Path | None = None,
    *,
    train: int | None = None,
    test: int | None = None,
    size: int | None = None,
    flat: bool = False,
    rows: bool = False,
    standard: bool = False,
    binary: bool = False,
) -> Dataset:
    """A dataset by name; kept in memory, so that the trials of one process load it once.

    Images are ``(n, C, H, W)`` in [0, 1], sequences ``(n, L, features)`` with zeros after the end
    of each, tables ``(n, features)``.

    Args:
        name: ``digits``, ``digits_m``, ``wine``, ``breast_cancer`` and ``diabetes`` come with
            scikit-learn; ``mnist``, ``mnist_m``, ``usps``, ``fashion_mnist``, ``svhn``,
            ``cifar10``, ``spoken_digits`` and ``housing`` lie in `folder`.
        folder: where the files lie.
        train: at most so many examples train, chosen by chance, for everybody the same.
        test: likewise.
        size: images are made this high and wide.
        flat: examples are vectors.
        rows: images are sequences of rows, ``(n, H, C · W)``.
        standard: minus the mean, over the standard deviation of the training part, by channel of
            images and else by feature.
        binary: levels are 1 where they are at least half, else 0.

    Raises:
        FileNotFoundError: the folder has no such files.
        ValueError: an unknown name, no folder, a wrong option, or a file that is not right.
    """
    entry = _entry(name)
    steps = Steps(train, test, size, flat, rows, standard, binary)
    steps.check(name, entry.kind)
    parts, digest = _made(entry) if entry.made else _read(name, entry, folder)
    chosen = (some(parts[0], train), some(parts[1], test))

    return Dataset(
        name,
        entry.title,
        entry.preparation + steps.words(entry.kind, entry.wanted.shape),
        *_tensors(name, entry, chosen, steps),
        digest=_digest(name, digest, steps.written()),
        classes=entry.wanted.classes,
        lengths_train=_lengths(chosen[0]),
        lengths_test=_lengths(chosen[1]),
    )


def is_there(name: str, folder: Path | None) -> bool:
    """Whether :func:`load` finds it."""
    entry = _entry(name)

    return bool(entry.made) or (folder is not None and _source(entry, folder) is not None)


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        cure = f"Use one of {', '.join(CATALOGUE)}"
        raise ValueError(explain("load", "the dataset must be known", repr(name), cure))

    return CATALOGUE[name]


def _made(entry: Entry) -> tuple[Parts, str]:
    assert entry.made is not None
    parts = entry.made()
    entry.wanted.check(entry.title, parts)
    content = (array.tobytes() for raw in parts for array in (raw.x, raw.y))

    return parts, _sha256(content)


def _read(name: str, entry: Entry, folder: Path | None) -> tuple[Parts, str]:
    files = " or ".join(", ".join(source.files) for source in entry.sources)
    if folder is None:
        rule, cure = f"a folder with {files} must be named", f"Use --data or set {DATA_VARIABLE}"
        raise ValueError(explain(name, rule, "none", cure))
    source = _source(entry, folder)
    if source is None:
        rule = f"the folder must have {files}"
        cure = "Put it there: `batchnorm lab data` says where it comes from"
        raise FileNotFoundError(explain(name, rule, f"'{folder}' without it", cure))
    paths = tuple(folder / file for file in source.files)
    digest = _sha256(path.read_bytes() for path in paths)
    parts = source.read(paths)
    entry.wanted.check(str(paths[0]), parts)

    return parts, digest


def _source(entry: Entry, folder: Path) -> Source | None:
    """The first whose files are there."""
    there = (s for s in entry.sources if all((folder / file).is_file() for file in s.files))

    return next(there, None)


def _tensors(
    name: str, entry: Entry, parts: Parts, steps: Steps
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``x_train, y_train, x_test, y_test``."""
    train, test = (_examples(raw, entry, steps) for raw in parts)
    if steps.binary and train.min() == train.max():
        rule, cure = "images must have levels on both sides of half", "Leave binary out"
        raise ValueError(explain(name, rule, "one side only", cure))
    if steps.standard:
        lengths = [_lengths(raw) for raw in parts]
        standardise(train, test, lengths)
    labels = [_labels(raw, entry) for raw in parts]

    return (
        steps.shaped(train, entry.kind),
        labels[0],
        steps.shaped(test, entry.kind),
        labels[1],
    )


def _examples(raw: Raw, entry: Entry, steps: Steps) -> Tensor:
    if entry.kind == "images":
        return steps.images(raw.x, entry.levels)

    return torch.tensor(raw.x, dtype=torch.float32)


def _labels(raw: Raw, entry: Entry) -> Tensor:
    return torch.tensor(raw.y, dtype=torch.int64 if entry.wanted.classes else torch.float32)


def _lengths(raw: Raw) -> Tensor | None:
    return None if raw.lengths is None else torch.tensor(raw.lengths, dtype=torch.int64)


def _digest(*what: object) -> str:
    return _sha256([json.dumps(what).encode()])


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)

    return digest.hexdigest()
