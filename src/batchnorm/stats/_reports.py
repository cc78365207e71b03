"""What statistics tools did to a model: a table, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ._tables import number, table

__all__ = ["RecalibratedLayer", "RecalibrationReport", "Stopped"]

Stopped = Literal["end of data", "budget", "interval"]


@dataclass(frozen=True)
class RecalibratedLayer:
    """One layer's new statistics against its old ones; each number is the worst channel's.

    Args:
        path: dotted, from the model.
        count: values per channel that were measured; the smallest of the channels.
        batches: that entered, of all ranks.
        shift: distance of the new mean from the old, in old standard deviations.
        ratio: smallest and largest new/old variance.
        mean_width: half width of the confidence interval of the mean, in standard deviations.
        var_width: half width of the confidence interval of the variance, as a share of it.
        kept: channels that kept their old statistics: no two finite values.
        lost: batches that were not finite in some channel.
    """

    path: str
    count: int
    batches: int
    shift: float
    ratio: tuple[float, float]
    mean_width: float
    var_width: float
    kept: int
    lost: int


@dataclass(frozen=True)
class RecalibrationReport:
    """What ``recalibrate`` did.

    Args:
        layers: those with new statistics.
        left: path → why the layer was left alone.
        batches: that this rank read, in all passes.
        stopped: what ended the (last) pass.
        confidence: of the intervals.
    """

    layers: tuple[RecalibratedLayer, ...]
    left: dict[str, str]
    batches: int
    stopped: Stopped
    confidence: float
    _restore: Callable[[], None] = field(repr=False, compare=False)

    def undo(self) -> None:
        """Give the layers the statistics that they had before."""
        self._restore()

    @property
    def mean_width(self) -> float:
        """Half width of the interval of the mean in the worst channel of all layers."""
        return max(layer.mean_width for layer in self.layers)

    @property
    def var_width(self) -> float:
        """Half width of the interval of the variance in the worst channel of all layers."""
        return max(layer.var_width for layer in self.layers)

    def __str__(self) -> str:
        share = f"{self.confidence:.0%}"
        widths = [f"mean ±{share}", f"var ±{share}"]
        head = ["layer", "values", "mean moved by", "var new/old", *widths]
        lines = [
            f"recalibrated {len(self.layers)} layers in {self.batches} batches ({self.stopped})",
            table(head, [_cells(layer) for layer in self.layers]),
            *(
                f"{layer.path}: {layer.kept} channels kept their statistics, "
                f"{layer.lost} batches were not finite"
                for layer in self.layers
                if layer.kept or layer.lost
            ),
            *(f"left: {path or 'the model'}: {reason}" for path, reason in self.left.items()),
        ]

        return "\n".join(lines)


def _cells(layer: RecalibratedLayer) -> list[str]:
    return [
        layer.path or "(the model)",
        str(layer.count),
        f"{number(layer.shift)} std",
        "..".join(map(number, layer.ratio)),
        f"{number(layer.mean_width)} std",
        f"{layer.var_width:.2%}",
    ]
