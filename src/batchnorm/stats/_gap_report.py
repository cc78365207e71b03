"""What the comparison of running and batch statistics found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._tables import number, table

__all__ = ["SURE", "GapReport", "LayerGap", "in_errors"]

#: Standard errors from which on a channel counts as away.
SURE = 3.0


@dataclass(frozen=True)
class LayerGap:
    """One layer's running statistics against the batch's.

    Args:
        path: dotted, from the model.
        channels: C.
        mean_errors: ``(C,)``, or a row for each domain ``(D, C)`` or step ``(T, C)``: batch mean
            minus running mean, in standard errors of the batch's. NaN in rows that the batch has
            not two examples of, or that were never trained.
        var_errors: the same of the variance; of a whitened layer of the covariances
            ``(C/d, d, d)``.
        ratio: smallest and largest running/batch variance; of a whitened layer in any direction.
        share: of the channels whose mean or variance is more than three standard errors away; of
            a whitened layer, of the covariances.
        output: what the difference does to the layer's normalised output: root mean square over
            all values of x̂ by running minus x̂ by batch statistics (which has size 1).
        loss: of the model when this layer alone uses its running statistics; NaN without a loss.
        by: what the rows are: ``"domain"``, ``"step"``, or empty for one.
        outputs: ``(rows,)``: ``output`` of each row.
    """

    path: str
    channels: int
    mean_errors: Tensor
    var_errors: Tensor
    ratio: tuple[float, float]
    share: float
    output: float
    loss: float
    by: str
    outputs: Tensor

    @property
    def mean_size(self) -> float:
        """Root mean square of ``mean_errors``; about 1 when running statistics are right."""
        return self._size(self.mean_errors)

    @property
    def var_size(self) -> float:
        """Root mean square of ``var_errors``; about 1 when running statistics are right."""
        return self._size(self.var_errors)

    def _size(self, errors: Tensor) -> float:
        squares = errors[~self.outputs.isnan()] if self.by else errors

        return float(squares.square().mean().sqrt())

    @property
    def worst_row(self) -> int:
        """The domain or step whose output differs most; 0 if there is one for all."""
        return int(self.outputs.nan_to_num(-1.0).argmax())


def in_errors(difference: Tensor, error: Tensor) -> Tensor:
    """A difference in units of its error: 0 where there is none, even without an error."""
    return torch.where(difference == 0, 0.0, difference / error)


@dataclass(frozen=True)
class GapReport:
    """What ``train_eval_gap`` found.

    Args:
        layers: in the order of the model.
        left: path → why a layer is not in it.
        output: root mean square of output in eval minus output in train mode, divided by that of
            the latter's deviations from its mean; NaN if the model's output is no tensor.
        loss_train: with batch statistics; NaN without a loss.
        loss_eval: with running statistics.
    """

    layers: tuple[LayerGap, ...]
    left: dict[str, str]
    output: float
    loss_train: float
    loss_eval: float

    @property
    def worst(self) -> LayerGap:
        """The layer whose output differs most."""
        return max(self.layers, key=lambda layer: layer.output)

    def __str__(self) -> str:
        with_loss = self.loss_train == self.loss_train
        head = [
            "layer",
            "mean off by",
            "var off by",
            "channels > 3 se",
            "running/batch var",
            "output",
        ]
        cells = [
            [*_cells(layer), number(layer.loss)][: None if with_loss else -1]
            for layer in self.layers
        ]
        lines = [table([*head, "loss"] if with_loss else head, cells)]
        if with_loss:
            lines.append(
                f"loss: {number(self.loss_train)} with batch statistics, "
                f"{number(self.loss_eval)} with running statistics"
            )
        if self.output == self.output:
            lines.append(f"model output differs by {self.output:.2%} of its spread")
        lines += (f"left: {path or 'the model'}: {reason}" for path, reason in self.left.items())

        return "\n".join(lines)

    def plot(self) -> Any:
        """The table as an Altair chart: errors of mean and variance, and the output, per layer.

        Raises:
            RuntimeError: Altair is not installed.
        """
        from ._gap_plot import chart

        return chart(self)


def _cells(layer: LayerGap) -> list[str]:
    return [
        layer.path or "(the model)",
        f"{number(layer.mean_size)} se",
        f"{number(layer.var_size)} se",
        f"{layer.share:.0%}",
        "..".join(map(number, layer.ratio)),
        f"{layer.output:.2%}{_worst(layer)}",
    ]


def _worst(layer: LayerGap) -> str:
    """The domain or step that is worst."""
    at = layer.worst_row

    return f" ({layer.by} {at}: {float(layer.outputs[at]):.2%})" if layer.by else ""
