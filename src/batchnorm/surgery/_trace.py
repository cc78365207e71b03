"""The graph of a model by the best way that works."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ._graph import Graph, Way
from ._trace_export import trace_by_export
from ._trace_fx import trace_by_fx, trace_by_parts
from ._trace_run import attributes_kept, trace_by_run, unchanged

__all__ = ["trace"]

_ALL: tuple[Way, ...] = ("fx", "export", "run", "parts")


def trace(model: nn.Module, sample: Any = None, ways: Sequence[Way] = _ALL) -> Graph:
    """What feeds what, in the model's present mode; nothing of the model changes.

    Args:
        model: any module.
        sample: a tensor, a tuple of arguments or a dict of named ones. Without one, the ways that
            run the model are left out.
        ways: which to try, in this order; the first that works is taken.

    Returns:
        The graph, which says which way it took and why not a better one.

    Example:
        >>> graph = trace(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
        >>> graph.way, graph.calls
        ('fx', [<input 'input'>, <module '0'>, <module '1'>, <output 'output'>])
    """
    tracers: dict[Way, Callable[[], Graph]] = {
        "fx": lambda: trace_by_fx(model),
        "export": lambda: trace_by_export(model, sample),
        "run": lambda: trace_by_run(model, sample),
        "parts": lambda: trace_by_parts(model),
    }
    notes: list[str] = []
    for way in ways:
        if sample is None and way in ("export", "run"):
            continue
        try:
            with _kept(model):
                graph = tracers[way]()
        except Exception as error:
            if way == "run":  # the model cannot run its own sample
                raise
            notes.append(f"torch.{way} fails: {_first_line(error)}")
        else:
            graph.notes = (*notes, *graph.notes)
            graph.model = model
            return graph

    raise ValueError(f"no way of {tuple(ways)} works: {'; '.join(notes)}")


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """A model that stores or counts what passes is left without a tracer's stand-ins and steps."""
    with attributes_kept(model), unchanged(model):
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
