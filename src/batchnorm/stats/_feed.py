"""Batches through a model: tensors, tuples, dicts; with a progress bar when there is rich."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from .._errors import explain

__all__ = ["Forward", "Track", "call", "eager", "mover", "tracked"]

Forward = Callable[[nn.Module, Any], Any]
"""How a batch of the loader goes through the model."""

Track = Callable[[Iterable[Any], str], Iterable[Any]]
"""Passes batches on, and shows under a label how far they are."""


def call(model: nn.Module, batch: Any) -> Any:
    """A tensor is the input; a mapping the keyword arguments; of a tuple the first is the input.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(batch, Tensor):
        return model(batch)
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return model(**dict(batch))
    if isinstance(batch, (tuple, list)) and batch:
        return model(batch[0])

    raise TypeError(
        explain(
            "batchnorm.stats",
            "a batch must be a tensor, a tuple that begins with the input, or a dict of arguments",
            f"a {type(batch).__name__}",
            "Pass forward=lambda model, batch: model(...)",
        )
    )


def mover(like: Tensor, device: Any) -> Callable[[Any], Any]:
    """Moves every tensor of a batch to the device, by default the one of ``like``."""
    where = like.device if device is None else torch.device(device)

    def move(batch: Any) -> Any:
        return _pytree.tree_map_only(Tensor, lambda t: t.to(where, non_blocking=True), batch)

    return move


def eager() -> AbstractContextManager[Any]:
    """Compiled parts of a model run eagerly: their graphs do not see hooks that come later."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()

    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")

    return stance


@contextmanager
def tracked(show: bool | None, what: str) -> Iterator[Track]:
    """A function that passes batches on and shows how far they are.

    Args:
        show: whether; None: if rich is installed and someone looks (stderr is a terminal).
        what: in front of the bar.

    Raises:
        RuntimeError: it shall be shown, and rich is not installed.
    """
    if show is None:
        show = sys.stderr.isatty() and find_spec("rich") is not None
    if not show:
        yield lambda batches, label: batches
        return

    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        raise RuntimeError(
            explain(what, "progress=True needs rich", "no such package", "pip install rich")
        ) from None

    console = Console(stderr=True)
    with Progress(console=console, transient=console.is_terminal) as progress:

        def track(batches: Iterable[Any], label: str) -> Iterable[Any]:
            total = len(batches) if isinstance(batches, Sized) else None
            return progress.track(batches, total=total, description=f"{what} {label}".rstrip())

        yield track
