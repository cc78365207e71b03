"""Which quantities of a recording become heat maps, under which heading and in which colours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ....watch._schema import QUANTITIES

__all__ = ["SECTIONS", "Shown"]

Colours = Literal["signed", "size"]
_TEXTS = {quantity.name: quantity for quantity in QUANTITIES}


def _farthest(values: Iterable[float]) -> float:
    return max(values, key=abs)


@dataclass(frozen=True)
class Shown:
    """A quantity and how it is drawn.

    Args:
        name: of the column.
        title: of the chart.
        colours: ``"signed"`` around zero, ``"size"`` from small to large.
        choose: which number of several steps is shown: the one that tells of trouble.
        chosen: that choice in words.
        about: what it is, where the file format says it by a word for the column before.
    """

    name: str
    title: str
    colours: Colours = "size"
    choose: Callable[[Iterable[float]], float] = max
    chosen: str = "largest"
    about: str = ""

    @property
    def text(self) -> str:
        """What it is."""
        return self.about or _TEXTS[self.name].text

    @property
    def unit(self) -> str:
        """``""`` for a pure number and for numbers in units of the values."""
        unit = _TEXTS[self.name].unit
        return "" if unit == "x" else unit


def _signed(name: str, title: str) -> Shown:
    return Shown(name, title, "signed", _farthest, "farthest from zero")


def _least(name: str, title: str, about: str = "") -> Shown:
    return Shown(name, title, "size", min, "smallest", about)


SECTIONS: dict[str, tuple[Shown, ...]] = {
    "Inputs": (
        _signed("in_mean", "Mean of the inputs"),
        Shown("in_std", "Standard deviation of the inputs"),
        Shown("in_nonfinite", "Input channels with NaN or infinity"),
        Shown("shift", "Shift of the input distribution"),
        Shown("condition", "Condition number of the inputs"),
        _least("rank", "Effective rank of the inputs", "(Σλ)² / Σλ² of their covariance"),
    ),
    "Outputs": (
        _signed("out_mean", "Mean of the outputs"),
        Shown("out_std", "Standard deviation of the outputs"),
        Shown("out_nonfinite", "Output channels with NaN or infinity"),
        Shown("dead", "Dead channels"),
        Shown("saturated", "Saturated outputs"),
    ),
    "Statistics": (
        _signed("distance_mean", "Batch mean against running mean"),
        Shown("distance_std", "Batch deviation against running deviation"),
        Shown("distance_errors", "Distance of the means in standard errors"),
        _least("samples", "Values per channel"),
        _least(
            "independent",
            "Independent values per channel",
            "independent values that the batch of a channel is worth",
        ),
        _least("updates", "Updates of the running statistics"),
        Shown(
            "updates_per_call",
            "Updates per call",
            about="updates of the running statistics per call; 2: a recomputation counts",
        ),
        Shown("stale", "Steps without an update"),
    ),
    "Weights": (
        _signed("weight_mean", "Mean of the weight"),
        Shown("weight_std", "Spread of the weight"),
        Shown("weight_small", "Weights about zero"),
        _signed("bias_mean", "Mean of the bias"),
        Shown("bias_std", "Spread of the bias"),
        Shown("weight_norm", "Norm of the parameters"),
    ),
    "Gradients and updates": (
        Shown("grad_norm", "Norm of the gradient"),
        Shown("grad_ratio", "Gradient against parameters"),
        Shown("update_ratio", "Update against parameters"),
    ),
}
"""Heading → quantities below it."""
