"""One layer's memory against what a batch shows it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ._gap_covariances import Covariances
from ._gap_report import SURE, LayerGap, in_errors
from ._layer_memory import memory_of, rows_by
from ._population import Population
from ._samples import by_sample
from ._sights import Sight, is_whitened

__all__ = ["Comparison", "comparison"]


class Comparison(Protocol):
    """Sees what a layer is given, then compares."""

    def take(self, sight: Sight) -> None:
        """See a part of a call."""

    def row(self, path: str, loss: float) -> LayerGap:
        """The comparison, if there is one."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compare."""


def comparison(layer: Any) -> Comparison:
    """The one for this kind of memory."""
    return Covariances(layer) if is_whitened(layer) else _Variances(layer)


class _Variances:
    """Of means and variances: for all, by domain or by step."""

    def __init__(self, layer: Any) -> None:
        self._eps, self._by = layer.eps, rows_by(layer)
        self._memory = memory_of(layer)
        self._known = self._memory.known.reshape(-1).tolist()
        self._seen: dict[int, Population] = {}

    def take(self, sight: Sight) -> None:
        """See a part of a call."""
        row = sight.row or 0
        # Of one example of a domain, or one sequence that is left, there are no errors.
        if sight.row is None or (len(sight.input) > 1 and self._known[row]):
            seen = by_sample(sight.input, sight.mask)
            if sight.row is None or bool((seen.batches > 1).all()):
                self._seen.setdefault(row, Population()).merge(seen)

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing of what the layer remembers."""
        return not self._seen

    def row(self, path: str, loss: float) -> LayerGap:
        """The comparison."""
        mean, var = (values.reshape(-1, values.shape[-1]) for values in self._memory[:2])
        found = {
            row: _against(mean[row], var[row], self._eps, seen) for row, seen in self._seen.items()
        }
        of_mean, of_var, apart, ratio = map(torch.stack, zip(*found.values(), strict=True))
        far = (of_mean.abs() > SURE) | (of_var.abs() > SURE)

        return LayerGap(
            path=path,
            channels=mean.shape[1],
            mean_errors=self._table(found, of_mean),
            var_errors=self._table(found, of_var),
            ratio=(float(ratio.min()), float(ratio.max())),
            share=float(far.double().mean()),
            output=float(apart.mean().sqrt()),
            loss=loss,
            by=self._by,
            outputs=self._table(found, apart.mean(1, keepdim=True).sqrt()).flatten(),
        )

    def _table(self, rows: dict[int, Any], values: Tensor) -> Tensor:
        """As memory is; NaN in rows that were not seen."""
        if not self._by:
            return values[0]
        table = values.new_full((len(self._known), values.shape[1]), torch.nan)
        table[list(rows)] = values

        return table


def _against(mean: Tensor, var: Tensor, eps: float, batch: Population) -> tuple[Tensor, ...]:
    """Errors of mean and variance, mean square of the change of x̂, running/batch variance."""
    stats, errors = batch.result(), batch.errors()
    of_mean = in_errors(stats.mean - mean, errors.mean)
    of_var = in_errors(stats.var_unbiased - var, errors.var)

    # x̂ by running = (x̂·√(v + eps) + m - r) / √(r_var + eps), for every value of the batch.
    stretch = ((stats.var + eps) / (var + eps)).sqrt() - 1
    shift = (stats.mean - mean) / (var + eps).sqrt()
    apart = stats.var / (stats.var + eps) * stretch**2 + shift**2
    ratio = var / stats.var_unbiased.clamp(min=torch.finfo(torch.float32).tiny)

    return of_mean, of_var, apart, ratio
