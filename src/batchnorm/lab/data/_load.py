"""Datasets by name."""

import hashlib
import inspect
import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ..._errors import explain
from ._cache import cache_folder, cached
from ._catalogue import CATALOGUE, Entry
from ._checksums import checksums
from ._dataset import Dataset
from ._folder import DATA_VARIABLE
from ._prepare import Steps
from ._raw import Parts, Raw, Source
from ._split import some
from ._standard import standardise

__all__ = ["downloads", "entry_of", "files_of", "is_there", "load", "wanted_files"]


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
            ``cifar10``, ``spoken_digits`` and ``housing`` lie in `folder`, or were downloaded.
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
    entry = entry_of(name)
    steps = Steps(train, test, size, flat, rows, standard, binary)
    steps.check(name, entry.kind)
    parts, content = _made(entry) if entry.made else _read(name, entry, folder)
    chosen = (some(parts[0], train), some(parts[1], test))

    return Dataset(
        name,
        entry.title,
        entry.preparation + steps.words(entry.kind, entry.wanted.shape),
        *_tensors(name, entry, chosen, steps),
        digest=_digest(name, content, steps.written()),
        classes=entry.wanted.classes,
        lengths_train=_lengths(chosen[0]),
        lengths_test=_lengths(chosen[1]),
    )


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
    """Whether :func:`load` finds it."""
    entry = entry_of(name)

    return entry.made is not None or files_of(entry, folder) is not None


def downloads() -> Path:
    """The folder of what was downloaded."""
    return cache_folder() / "downloads"


def files_of(entry: Entry, folder: Path | None) -> tuple[Source, tuple[Path, ...]] | None:
    """Where a dataset lies: in the folder, or else among what was downloaded."""
    for place in (folder, downloads()):
        for source in entry.sources if place else ():
            assert place is not None
            paths = source.find(place)
            if paths is not None:
                return source, paths

    return None


def wanted_files(entry: Entry) -> str:
    """What may lie in a folder, in words."""
    return ", or ".join(source.named for source in entry.sources)


def _made(entry: Entry) -> tuple[Parts, str]:
    assert entry.made is not None
    parts = entry.made()
    entry.wanted.check(entry.title, parts)
    content = (array.tobytes() for raw in parts for array in (raw.x, raw.y))

    return parts, _sha256(content)


def _read(name: str, entry: Entry, folder: Path | None) -> tuple[Parts, str]:
    found = files_of(entry, folder)
    if found is None:
        raise _missing(name, entry, folder)
    source, paths = found
    decoder = f"{source.decoder} {version(source.decoder)}" if source.decoder else ""
    content = _digest(checksums(paths, source.sha256, of_content=source.of_content), decoder)

    def read() -> Parts:
        parts = source.read(paths)
        entry.wanted.check(str(paths[0]), parts)
        return parts

    return cached(_key(name, source, content), read) if source.slow else read(), content


def _missing(name: str, entry: Entry, folder: Path | None) -> OSError | ValueError:
    rule = f"its files must lie in a folder that you name: {wanted_files(entry)}"
    fetch = f", or run `batchnorm lab data {name} --download`" if entry.hub else ""
    if folder is None:
        cure = f"Use --data FOLDER or set {DATA_VARIABLE}{fetch}"
        return ValueError(explain(name, rule, "no folder", cure))
    cure = f"Put them there, from {entry.origin}{fetch}"

    return FileNotFoundError(explain(name, rule, f"'{folder}' without them", cure))


def _key(name: str, source: Source, content: str) -> str:
    """Of the cache: another content, or another way to read it, is another key."""
    written = Path(inspect.getfile(source.read)).read_bytes()

    return f"{name}-{_sha256([written, content.encode()])[:16]}"


def _tensors(
    name: str, entry: Entry, parts: Parts, steps: Steps
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``x_train, y_train, x_test, y_test``."""
    train, test = (_examples(raw, entry, steps) for raw in parts)
    if steps.binary and train.min() == train.max():
        rule, cure = "images must have levels on both sides of half", "Leave binary out"
        raise ValueError(explain(name, rule, "one side only", cure))
    if steps.standard:
        standardise(train, test, [_lengths(raw) for raw in parts])
    y_train, y_test = (_labels(raw, entry) for raw in parts)

    return steps.shaped(train, entry.kind), y_train, steps.shaped(test, entry.kind), y_test


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
