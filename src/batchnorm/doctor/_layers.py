"""Questions about single layers that several rules ask."""

from typing import Any

from torch import nn

__all__ = ["has_activation"]


def has_activation(layer: Any) -> bool:
    """Whether a batch norm layer applies an activation itself, as ours and timm's may."""
    own = layer._modules.get("act")

    return getattr(layer, "activation", "identity") != "identity" or not (
        own is None or isinstance(own, nn.Identity)
    )
