"""A whitened layer's memory against what a batch shows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops import Whitening
from ._gap_report import SURE, LayerGap, in_errors
from ._layer_memory import memory_of
from ._samples import Moments, check_examples, moments_by_sample
from ._sights import Sight

__all__ = ["Covariances"]


class Covariances:
    """Of means and covariances within groups of channels."""

    def __init__(self, layer: Any) -> None:
        self._how: Whitening = layer._how
        self._memory = memory_of(layer)
        self._seen: list[Sight] = []

    def take(self, sight: Sight) -> None:
        """See a call."""
        check_examples(sight.input)
        self._seen.append(sight._replace(input=sight.input.detach()))

    @property
    def is_empty(self) -> bool:
        """Whether there was no call."""
        return not self._seen

    def row(self, path: str, loss: float) -> LayerGap:
        """The comparison."""
        mean, covariance, _ = self._memory
        groups, size = covariance.shape[:2]
        parts = [self._group(slice(at, at + size)) for at in range(0, len(mean), size)]
        batch = Moments(*map(torch.stack, zip(*parts, strict=True)))

        of_mean = in_errors(batch.mean.flatten() - mean, batch.mean_error.flatten())
        of_var = in_errors(batch.unbiased - covariance, batch.covariance_error)
        off = (of_mean.abs() > SURE).view(groups, size).diag_embed()
        ratio = self._ratio(covariance, batch.unbiased)
        apart = self._apart(mean.view(groups, size), covariance, batch).mean().sqrt()

        return LayerGap(
            path=path,
            channels=len(mean),
            mean_errors=of_mean,
            var_errors=of_var,
            ratio=(float(ratio.min()), float(ratio.max())),
            share=float((off | (of_var.abs() > SURE)).double().mean()),
            output=float(apart),
            loss=loss,
            by="",
            outputs=apart.reshape(1),
        )

    def _group(self, channels: slice) -> Moments:
        return moments_by_sample([(seen.input[:, channels], seen.mask) for seen in self._seen])

    def _ratio(self, running: Tensor, batch: Tensor) -> Tensor:
        """Running/batch variance in the directions in which it is most extreme, with eps."""
        eps = self._how.eps
        eye = eps * torch.eye(running.shape[-1], dtype=running.dtype, device=running.device)
        root = Whitening("zca", self._how.group_size, eps, self._how.iterations).root(batch)

        values: Tensor = torch.linalg.eigvalsh(root @ (running + eye) @ root)

        return values

    def _apart(self, mean: Tensor, covariance: Tensor, batch: Moments) -> Tensor:
        """Mean square of x̂ by memory minus x̂ by the batch, of each channel."""
        by_memory = self._how.root(covariance)
        change = by_memory - self._how.root(batch.covariance)
        shift = (by_memory @ (batch.mean - mean).unsqueeze(-1)).squeeze(-1)

        return (change @ batch.covariance * change).sum(-1) + shift.square()
