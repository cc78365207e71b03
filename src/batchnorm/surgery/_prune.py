"""Channels that batch norm has all but switched off: a listing, nothing is removed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._errors import explain
from ._places import paths_of

__all__ = ["PruneReport", "PruneRow", "prune_report"]

_SHOWN = 8


@dataclass(frozen=True)
class PruneRow:
    """One layer.

    Args:
        path: dotted path; a shared layer's other paths follow after commas.
        channels: indices of those with a small weight, the smallest first.
        num_features: of all.
        smallest: the smallest magnitude of a weight.
        median: of the weights' magnitudes.
    """

    path: str
    channels: tuple[int, ...]
    num_features: int
    smallest: float
    median: float


@dataclass(frozen=True)
class PruneReport:
    """What :func:`prune_report` found.

    Args:
        rows: layers that have a weight, in the order of the model.
        threshold: magnitudes up to this one count as small.
        skipped: paths of batch norms without a weight.
    """

    rows: tuple[PruneRow, ...]
    threshold: float
    skipped: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Channels with a small weight."""
        return sum(len(row.channels) for row in self.rows)

    @property
    def total(self) -> int:
        """All channels."""
        return sum(row.num_features for row in self.rows)

    def __str__(self) -> str:
        head = ("path", "small", "of", "smallest", "median", "channels")
        cells = [
            (
                *(row.path or ".", str(len(row.channels)), str(row.num_features)),
                *(f"{row.smallest:.2g}", f"{row.median:.2g}", _listed(row.channels)),
            )
            for row in self.rows
            if row.channels
        ]
        lines = [
            f"{self.count} of {self.total} channels have |weight| <= {self.threshold:.3g}",
            *(_aligned([head, *cells]) if cells else []),
        ]
        if self.skipped:
            lines.append(f"without a weight: {', '.join(self.skipped)}")

        return "\n".join(lines)


def prune_report(
    model: nn.Module, threshold: float = 1e-2, *, fraction: float | None = None
) -> PruneReport:
    r"""List the channels whose weight γ is about zero.

    Such a channel's output is its bias, whatever comes in. Training with an L1 penalty on the
    weights makes many of them (network slimming).

    Args:
        model: any module with batch norms of torch, timm or ours; not changed.
        threshold: \|weight\| up to this is small.
        fraction: the smallest weights of the whole model, from 0 to 1, instead of ``threshold``.

    Raises:
        ValueError: no batch norm of the model has a weight, or a number out of range.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming"
        (arXiv:1708.06519); ``fraction`` is its global threshold.

    Example:
        >>> layer = batchnorm.BatchNorm1d(4)
        >>> _ = torch.nn.init.zeros_(layer.weight[1:3])
        >>> print(prune_report(torch.nn.Sequential(layer)))
        2 of 4 channels have |weight| <= 0.01
        path  small  of  smallest  median  channels
        0     2      4   0         0       1, 2
    """
    weights, skipped = _weights(model)
    if fraction is not None:
        threshold = _quantile(list(weights.values()), fraction)
    elif not threshold >= 0:
        rule, cure = "threshold must not be negative", "Use 0.01"
        raise ValueError(explain("prune_report", rule, f"threshold={threshold}", cure))

    rows = (_row(path, weight, threshold) for path, weight in weights.items())
    return PruneReport(tuple(rows), threshold, tuple(skipped))


def _weights(model: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Magnitudes by path, and paths of layers without any."""
    found: dict[str, Tensor] = {}
    skipped: list[str] = []
    for module, paths in paths_of(model).items():
        if isinstance(module, _BatchNorm):
            weight, path = module.weight, ", ".join(paths)
            if weight is None:
                skipped.append(path)
            else:
                magnitude = weight.detach().double().abs()
                # With weights for each domain a channel is as large as in its largest domain.
                found[path] = magnitude.view(-1, magnitude.shape[-1]).amax(0)
    if not found:
        raise ValueError(
            explain(
                "prune_report",
                "the model must have a batch norm with a weight",
                f"{type(model).__name__} without one",
                "Pass a model with affine=True layers",
            )
        )

    return found, skipped


def _quantile(weights: list[Tensor], fraction: float) -> float:
    """The largest of the smallest ``fraction`` of all weights; -1 if that is none."""
    if not 0 <= fraction <= 1:
        rule, cure = "fraction must be from 0 to 1", "Use 0.3"
        raise ValueError(explain("prune_report", rule, f"fraction={fraction}", cure))
    every = torch.cat(weights).sort().values
    count = int(fraction * len(every))

    return float(every[count - 1]) if count else -1.0


def _row(path: str, weight: Tensor, threshold: float) -> PruneRow:
    order = weight.argsort(stable=True)
    small = tuple(int(i) for i in order if weight[i] <= threshold)

    return PruneRow(path, small, len(weight), float(weight.min()), float(weight.median()))


def _listed(channels: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, channels[:_SHOWN]))
    rest = len(channels) - _SHOWN

    return f"{shown} and {rest} more" if rest > 0 else shown


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ((c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)

    return ["  ".join(cells).rstrip() for cells in padded]
