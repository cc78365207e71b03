"""Units that say nothing, and units that cannot learn."""

from torch import Tensor

from ..._types import BatchStats

__all__ = ["dead", "saturated"]

# Where the slope is below 4 % of its largest: σ' is y(1 - y), tanh' is 1 - y².
_ENDS = {
    "sigmoid": (0.0101, 0.9899),
    "tanh": (-0.98, 0.98),
    "hardsigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-0.8, 0.8),
}


def dead(stats: BatchStats) -> float:
    """Share of channels whose output is the same value everywhere: of a ReLU, zero.

    Example:
        >>> dead(BatchStats(torch.tensor(9), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])))
        0.5
    """
    return float((stats.var == 0).double().mean())


def saturated(sample: Tensor, activation: str) -> float | None:
    """Share of outputs where the slope is below 4 % of its largest; None for another activation.

    Args:
        sample: outputs.
        activation: torch's functional name.

    Example:
        >>> saturated(torch.tensor([0.001, 0.5, 0.7, 0.995]), "sigmoid")
        0.5
    """
    ends = _ENDS.get(activation)
    sample = sample[sample.isfinite()]
    if ends is None or sample.numel() == 0:
        return None

    return float(((sample <= ends[0]) | (sample >= ends[1])).double().mean())
