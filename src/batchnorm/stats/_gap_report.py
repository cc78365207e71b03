"""What the comparison of running and batch statistics found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ._tables import number, table

__all__ = ["GapReport", "LayerGap"]


@dataclass(frozen=True)
class LayerGap:
    """One layer's running statistics against the batch's.

    Args:
        path: dotted, from the model.
        channels: C.
        mean_errors: ``(C,)``: batch mean minus running mean, in standard errors of the batch's.
        var_errors: ``(C,)``: the same of the variance.
        ratio: smallest and largest running/batch variance.
        share: of the channels whose mean or variance is more than three standard errors away.
        output: what the difference does to the layer's normalised output: root mean square over
            all values of x̂ by running minus x̂ by batch statistics (which has size 1).
        loss: of the model when this layer alone uses its running statistics; NaN without a loss.
    """

    path: str
    channels: int
    mean_errors: Tensor
    var_errors: Tensor
    ratio: tuple[float, float]
    share: float
    output: float
    loss: float

    @property
    def mean_size(self) -> float:
        """Root mean square of ``mean_errors``; about 1 when running statistics are right."""
        return float(self.mean_errors.square().mean().sqrt())

    @property
    def var_size(self) -> float:
        """Root mean square of ``var_errors``; about 1 when running statistics are right."""
        return float(self.var_errors.square().mean().sqrt())


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
        f"{layer.output:.2%}",
    ]
