"""BN112: a mean so large that the values lose their digits."""

from collections.abc import Iterator
from typing import Any

import torch

from .._context import Context
from .._finding import Finding
from .._live import Heard
from .._rule import Rule

__all__ = ["OffsetSwampsSpread"]

_TORCH = 1e4
_ROUNDING = 0.1


class OffsetSwampsSpread(Rule):
    """What enters a layer has a mean that is large against its standard deviation.

    Checks: |mean| / std of the batches in every channel. Too large is where the rounding of the
    input's dtype at the mean is above a tenth of the standard deviation (26 in bfloat16, 200 in
    float16, 1.7 million in float32), and, for torch's layers in float32, 10 000, from where their
    variance is off by a percent or more in two dimensions and channels_last.

    Why it hurts: the mean is taken away, but not the digits that it cost. What is left is noise,
    and it is scaled up to variance 1.

    Example: time stamps or unstandardised pressures into `nn.BatchNorm1d`.

    Instead: subtract a constant from the input; float32 for the first layers; this package's
    layers, exact at a mean of 10⁴ standard deviations.

    Is the fix safe: there is none; it is the data.

    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance"; torch 2.13
    measured on CPU.
    """

    code = "BN112"
    name = "offset-swamps-spread"
    severity = "warning"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers whose input is mostly offset."""
        assert context.live is not None
        for path, heard in context.live.norms.heard.items():
            limit = _limit(context.layers[path], heard)
            ratios = [ratio for one in heard if (ratio := _ratio(one)) is not None]
            if ratios and (worst := torch.stack(ratios).amax(0)).max() > limit:
                yield self.finding(
                    path,
                    f"the mean is up to {float(worst.max()):.2g} standard deviations from 0, too"
                    f" far for {_name(heard)} in {int((worst > limit).sum())} channels",
                    "Subtract a constant before, or standardise the input",
                    ratio=float(worst.max()),
                    limit=limit,
                    channels=int((worst > limit).sum()),
                )


def _ratio(heard: Heard) -> torch.Tensor | None:
    """|mean| / std per channel; 0 for constants, which have no digits to lose."""
    if heard.draws is None:
        return None
    batch = heard.draws.result()
    mean, std = batch.mean.abs(), batch.var.sqrt()
    # A constant channel has float64's rounding for a standard deviation.
    constant = std <= 1e-12 * mean

    return torch.where(constant, 0.0, mean / std.where(std > 0, 1.0))


def _limit(layer: Any, heard: list[Heard]) -> float:
    if not heard:
        return float("inf")
    limit = _ROUNDING / (torch.finfo(heard[0].dtype).eps / 2)
    theirs = type(layer).__module__.startswith("torch.") and heard[0].dtype == torch.float32

    return min(limit, _TORCH) if theirs else limit


def _name(heard: list[Heard]) -> str:
    return str(heard[0].dtype).removeprefix("torch.")
