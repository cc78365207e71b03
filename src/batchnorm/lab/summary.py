"""Numbers over seeds: mean, spread and what they leave open."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import stats

__all__ = ["Estimate", "difference", "estimate", "paired_shares", "ratio", "shares"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval.

    Args:
        mean: the mean (the geometric one from :func:`ratio`).
        low: lower end of the interval; -inf with fewer than two values.
        high: upper end.
        spread: standard deviation over seeds (a factor, from :func:`ratio`); 0 for one value.
        values: one per seed.
    """

    mean: float
    low: float
    high: float
    spread: float
    values: tuple[float, ...]

    @property
    def count(self) -> int:
        """Number of seeds."""
        return len(self.values)


def estimate(values: Sequence[float]) -> Estimate:
    r"""Mean of `values` with Student's 95 % interval, :math:`\bar v \pm t_{n-1} s / \sqrt n`.

    A value that is not finite leaves everything open.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("estimate: at least one value is needed. Got none. Use one or more seeds.")
    if not all(map(math.isfinite, values)):
        return Estimate(sum(values) / len(values), -math.inf, math.inf, math.nan, tuple(values))
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(mean, -math.inf, math.inf, 0.0, tuple(values))
    spread = statistics.stdev(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half, spread, tuple(values))


def difference(mine: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """`mine` minus `theirs`, each pair of one seed."""
    return estimate([a - b for a, b in zip(mine, theirs, strict=True)])


def ratio(values: Sequence[float], *, grid: float = 1.0) -> Estimate:
    """Geometric mean of positive ratios, with the interval taken on the logarithm.

    One that is not positive leaves everything open.

    Args:
        values: one ratio per seed.
        grid: factor by which a ratio may be off because its two numbers were read off a grid;
            the interval is that much wider at each end.
    """
    logs = estimate([math.log(value) if value > 0 else math.nan for value in values])
    low, high = math.exp(logs.low) / grid, math.exp(min(logs.high, 700.0)) * grid
    high = high if math.isfinite(logs.high) else math.inf
    return Estimate(math.exp(logs.mean), low, high, math.exp(logs.spread), tuple(values))


def shares(met: Sequence[bool]) -> Estimate:
    """How large a share of the draws is met, with Clopper and Pearson's interval.

    All alike leave room for others: of three draws that are not met the share may be 0.71.

    Raises:
        ValueError: nothing was drawn.
    """
    found = estimate([float(one) for one in met])
    bounds = stats.binomtest(sum(met), len(met)).proportion_ci(CONFIDENCE)

    return replace(found, low=float(bounds.low), high=float(bounds.high))


def paired_shares(mine: Sequence[bool], theirs: Sequence[bool]) -> Estimate:
    """How much larger one share is than another, both of the same draws.

    Only draws that tell the two apart count: the interval is Clopper and Pearson's for the part of
    them that is `mine`, times their share. So the verdict on zero is exact for any number of draws,
    the ends are those of the difference as long as that share is taken for known.

    Args:
        mine: whether each draw succeeds.
        theirs: the same draws otherwise.

    Raises:
        ValueError: nothing was drawn.

    Source: McNemar 1947; the exact test that is named after him has the same verdict.
    """
    gains = [float(m) - float(t) for m, t in zip(mine, theirs, strict=True)]
    found = estimate(gains)
    apart = sum(map(abs, gains))
    if not apart:
        return replace(found, low=0.0, high=0.0)
    won = stats.binomtest(gains.count(1.0), int(apart)).proportion_ci(CONFIDENCE)
    scale = apart / len(gains)

    return replace(found, low=(2 * won.low - 1) * scale, high=(2 * won.high - 1) * scale)
