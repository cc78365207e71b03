"""How a network's loss and gradients change when its parameters do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.nn.utils import parameters_to_vector

__all__ = ["Along", "Shift", "along_gradient", "gradient_shift"]

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Along:
    """What steps along the gradient meet.

    Args:
        loss_range: highest minus lowest loss, the start included.
        gradient_change: longest distance of a gradient from that at the start.
        smoothness: longest such distance, over the length of the step to there.
    """

    loss_range: float
    gradient_change: float
    smoothness: float


@dataclass(frozen=True)
class Shift:
    """What happens to a layer's gradient when the layers before it are updated.

    Args:
        change: distance of the two gradients, in lengths of the first.
        cosine: of the angle between them.
    """

    change: float
    cosine: float


def along_gradient(loss: Loss, parameters: Sequence[Tensor], rates: Sequence[float]) -> Along:
    """Go down the gradient from where the parameters are, and back.

    Args:
        loss: of the parameters as they are; the same for the same parameters.
        parameters: to move; they end as they began.
        rates: lengths of the steps, in lengths of the gradient.

    Source: Santurkar et al. 2018, section 3.2 (arXiv:1805.11604).
    """
    with _restored(parameters) as start:
        first, slope = _slope(loss, parameters)
        losses, changes, bends = [first], [], []
        for rate in rates:
            _put(parameters, start - rate * slope)
            found, there = _slope(loss, parameters)
            change = (there - slope).norm()
            losses.append(found)
            changes.append(float(change))
            bends.append(float(change / (rate * slope.norm())))

    return Along(max(losses) - min(losses), max(changes), max(bends))


def gradient_shift(loss: Loss, layers: Sequence[Sequence[Tensor]], lr: float) -> list[Shift]:
    """What the update of the layers before it does to each layer's gradient, but the first's.

    Args:
        loss: of the parameters as they are; the same for the same parameters.
        layers: parameters of each, from input to output; they end as they began.
        lr: learning rate of the update.

    Source: Santurkar et al. 2018, definition 2.1 (arXiv:1805.11604).
    """
    every = [parameter for layer in layers for parameter in layer]
    shifts = []
    with _restored(every):
        sizes = [sum(parameter.numel() for parameter in layer) for layer in layers]
        slopes = _slope(loss, every)[1].split(sizes)
        for place, layer in enumerate(layers[1:], 1):
            before = layers[place - 1]
            _put(before, _flat(before) - lr * slopes[place - 1])
            shifted, slope = _slope(loss, layer)[1], slopes[place]
            change = (shifted - slope).norm() / slope.norm()
            shifts.append(Shift(float(change), float(cosine_similarity(shifted, slope, 0))))

    return shifts


def _slope(loss: Loss, parameters: Sequence[Tensor]) -> tuple[float, Tensor]:
    found = loss()
    slopes = torch.autograd.grad(found, parameters)

    return found.item(), parameters_to_vector(slopes)


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    return parameters_to_vector(parameters).detach()


@torch.no_grad()
def _put(parameters: Sequence[Tensor], values: Tensor) -> None:
    parts = values.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view_as(parameter))


@contextmanager
def _restored(parameters: Sequence[Tensor]) -> Iterator[Tensor]:
    """The parameters as they are, to which they return."""
    start = _flat(parameters)
    try:
        yield start
    finally:
        _put(parameters, start)
