"""What of a model adapts: its layers, their weights and biases."""

from typing import Any

from torch import nn

from .._errors import explain
from ._layers import Found, find_layers
from ._sights import why_no_sight

__all__ = ["adaptable", "affine_of", "check_affine"]


def adaptable(model: nn.Module) -> Found:
    """Layers whose statistics can be set before each of their forwards.

    Raises:
        ValueError: there is none.
    """
    found = find_layers(model, "OnlineAdapter")
    own = {path: why_no_sight(layer) for path, layer in found.layers.items()}
    own = {path: reason for path, reason in own.items() if reason}
    layers = {path: layer for path, layer in found.layers.items() if path not in own}
    if not layers:
        raise ValueError(
            explain(
                "OnlineAdapter",
                "the model must have a batch norm whose input can be told apart",
                f"only {', '.join(f'{path}: {reason}' for path, reason in own.items())}",
                "Use batchnorm.recalibrate",
            )
        )

    return Found(layers, found.left | own)


def affine_of(layers: list[Any]) -> list[nn.Parameter]:
    """Weights and biases that are not frozen, each once."""
    free = (
        getattr(layer, name)
        for layer in layers
        for name in ("weight", "bias")
        if name not in getattr(layer, "frozen", ())
    )

    return list({id(p): p for p in free if isinstance(p, nn.Parameter)}.values())


def check_affine(affine: list[nn.Parameter]) -> None:
    """There is something to learn.

    Raises:
        ValueError: there is not.
    """
    if not affine:
        raise ValueError(
            explain(
                "adapt",
                "method='tent' learns weight and bias of batch norms",
                "layers with affine=False, or frozen, only",
                "Use method='adabn' or 'mix'",
            )
        )
