"""Parts of data, the same for everybody."""

import numpy as np

from ._raw import Array, Parts, Raw

__all__ = ["first", "quarter_out", "some"]


def first(raw: Raw, count: int) -> Parts:
    """The first examples train, the others test."""
    index = np.arange(len(raw))

    return raw.pick(index[:count]), raw.pick(index[count:])


def quarter_out(raw: Raw) -> Parts:
    """A random quarter tests."""
    order = _order(len(raw))
    held = len(raw) // 4

    return raw.pick(np.sort(order[held:])), raw.pick(np.sort(order[:held]))


def some(raw: Raw, count: int | None) -> Raw:
    """At most so many, by chance; a larger part holds every smaller one."""
    if count is None or count >= len(raw):
        return raw

    return raw.pick(np.sort(_order(len(raw))[:count]))


def _order(count: int) -> Array:
    # RandomState, not default_rng: its numbers stay the same in all versions of NumPy.
    return np.random.RandomState(0).permutation(count)
