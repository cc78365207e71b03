"""The spread of a layer's weights."""

from torch import Tensor

__all__ = ["small"]


def small(weight: Tensor) -> float:
    """Share of weights below 1 % of the largest in magnitude: of γ, channels that are switched off.

    Example:
        >>> small(torch.tensor([1.0, -0.001, 0.5, 0.3]))
        0.25
    """
    size = weight.detach().abs()

    return float((size < 0.01 * size.max()).double().mean())
