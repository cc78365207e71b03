"""Images as they come from elsewhere: noisy, out of focus, pale, overexposed, half hidden."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from .._errors import explain

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]

SEVERITIES = (0, 1, 2, 3)
"""0 leaves images as they are."""

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def _noise(x: Tensor, deviation: float, chance: torch.Generator) -> Tensor:
    return x + deviation * torch.randn(x.shape, generator=chance)


def _blur(x: Tensor, deviation: float, _: torch.Generator) -> Tensor:
    """Gaussian, in pixels; beyond the edge the image goes on as it ends."""
    reach = 2
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    bell = bell / bell.sum()
    padded = functional.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    rows = functional.conv2d(padded, bell.view(1, 1, 1, -1))

    return functional.conv2d(rows, bell.view(1, 1, -1, 1)).view_as(x)


def _contrast(x: Tensor, kept: float, _: torch.Generator) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)

    return mean + kept * (x - mean)


def _brightness(x: Tensor, added: float, _: torch.Generator) -> Tensor:
    return x + added


def _occlusion(x: Tensor, share: float, chance: torch.Generator) -> Tensor:
    """A black square, `share` of the width, anywhere."""
    count, _, height, width = x.shape
    side = round(share * width)
    top, left = (
        torch.randint(0, end - side + 1, (count, 1), generator=chance) for end in (height, width)
    )
    rows, columns = torch.arange(height), torch.arange(width)
    hidden = ((rows >= top) & (rows < top + side)).unsqueeze(2) & (
        (columns >= left) & (columns < left + side)
    ).unsqueeze(1)

    return x.masked_fill(hidden.unsqueeze(1), 0.0)


CORRUPTIONS: Mapping[str, tuple[Corruption, tuple[float, float, float]]] = {
    "noise": (_noise, (0.15, 0.3, 0.5)),
    "blur": (_blur, (0.5, 0.8, 1.2)),
    "contrast": (_contrast, (0.5, 0.3, 0.15)),
    "brightness": (_brightness, (0.2, 0.4, 0.6)),
    "occlusion": (_occlusion, (0.25, 0.4, 0.5)),
}
"""By name: what is done, and how much of it at severities 1 to 3."""


def corrupt(x: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """The images ``(n, C, H, W)``, corrupted, still in [0, 1].

    Args:
        x: in [0, 1].
        name: key of :data:`CORRUPTIONS`.
        severity: one of :data:`SEVERITIES`.
        seed: of what is random in it.

    Raises:
        ValueError: an unknown name or severity.

    Source: Hendrycks & Dietterich 2019 (arXiv:1903.12261), for the idea; the amounts are ours.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        rule = "corruption and severity must be known"
        cure = f"Use one of {', '.join(CORRUPTIONS)}, and one of {SEVERITIES}"
        raise ValueError(explain("corrupt", rule, f"{name!r}, {severity}", cure))
    if severity == 0:
        return x
    change, amounts = CORRUPTIONS[name]

    return change(x, amounts[severity - 1], torch.Generator().manual_seed(seed)).clamp(0.0, 1.0)
