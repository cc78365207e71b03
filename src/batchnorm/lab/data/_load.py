"""Datasets by name."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..._errors import explain
from ._catalogue import Entry
from ._dataset import Dataset
from ._find import entry_of
from ._prepare import Steps
from ._raw import Parts, Raw
from ._read import digest_of, raw_parts
from ._split import some
from ._standard import standardise

__all__ = ["load"]


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
    parts, content = raw_parts(name, entry, folder)
    chosen = (some(parts[0], train), some(parts[1], test))

    return Dataset(
        name,
        entry.title,
        entry.preparation + steps.words(entry.kind, entry.wanted.shape),
        *_tensors(name, entry, chosen, steps),
        digest=digest_of(name, content, steps.written()),
        classes=entry.wanted.classes,
        lengths_train=_lengths(chosen[0]),
        lengths_test=_lengths(chosen[1]),
    )


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
