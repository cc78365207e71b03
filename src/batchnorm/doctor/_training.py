"""What a training loop will do with the batch norms of a model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ._context import Context
from ._untouched import untouched

__all__ = [
    "covering",
    "is_training",
    "is_updating",
    "learns",
    "modes_in_training",
    "named",
    "twins",
]


def is_training(context: Context) -> bool:
    """Whether the model is there to be trained: in training mode, or with an optimizer."""
    return context.model.training or context.optimizer is not None


def learns(context: Context, tensor: Any) -> bool:
    """Whether training changes a parameter."""
    trained = context.optimizer is None or tensor in context.groups

    return bool(tensor.requires_grad and trained)


def modes_in_training(context: Context) -> dict[str, bool]:
    """Path → whether the layer is in training mode while the model is."""
    if context.model.training:
        return {path: layer.training for path, layer in context.layers.items()}
    with untouched(context.model):
        context.model.train()
        return {path: layer.training for path, layer in context.layers.items()}


def is_updating(layer: Any) -> bool:
    """Whether a batch in training mode moves the running statistics."""
    tracks = layer.track_running_stats and layer.running_mean is not None

    return bool(tracks and layer.momentum != 0 and getattr(layer, "_updates", True))


def covering(context: Context, paths: Collection[str]) -> dict[str, list[str]]:
    """The outermost modules all of whose batch norms are among these → the batch norms."""
    chosen: dict[str, list[str]] = {}
    taken: set[str] = set()
    for path in context.modules:
        inner = [p for p in context.layers if not path or p == path or p.startswith(f"{path}.")]
        if inner and not taken & set(inner) and set(inner) <= set(paths):
            chosen[path] = inner
            taken |= set(inner)

    return chosen


def twins(context: Context, path: str) -> Iterator[str]:
    """Layers at the same place of another module like one around this layer: of its teacher, say.

    Alike: of the same class, with parameters of the same names and shapes.
    """
    names = path.split(".")
    for end in range(1, len(names)):
        around, inside = ".".join(names[:end]), ".".join(names[end:])
        for other in context.modules:
            twin = f"{other}.{inside}"
            if other != around and twin in context.layers and _alike(context, around, other):
                yield twin


def _alike(context: Context, first: str, second: str) -> bool:
    modules = (context.modules[first], context.modules[second])
    shapes = [[(n, tuple(p.shape)) for n, p in m.named_parameters()] for m in modules]

    return type(modules[0]) is type(modules[1]) and shapes[0] == shapes[1]


def named(count: int, what: str = "layer") -> str:
    """``"1 layer"``, ``"2 layers"``."""
    return f"{count} {what}{'' if count == 1 else 's'}"
