"""What a part of the benchmark needs to know of the run."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Context"]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Context:
    """Options of the run; ``tick`` is called between rounds, never inside one."""

    threads: int
    quick: bool = False
    compile: bool = True
    tick: Callable[[], None] = _nothing
