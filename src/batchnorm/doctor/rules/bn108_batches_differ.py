"""BN108: every batch comes from another distribution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch

from .._context import Context
from .._finding import Finding
from .._live import Heard
from .._rule import Rule
from .._statistics import HARMLESS, in_layers

__all__ = ["BatchesDiffer"]

_LEAST_BATCHES = 3
_LEAST_EXAMPLES = 30
_CHANCE = 1e-3


class BatchesDiffer(Rule):
    """The batches' means differ more than those of random batches would.

    Checks: the spread of batch means against their standard errors, whose draws are the examples,
    over three batches and 30 examples or more. A layer counts if in the median channel the ratio
    (Fisher's F) would happen to random batches once in a thousand times, and the batches' true
    means are more than 0.25 standard deviations apart. One finding, at the first layer.

    Why it hurts: with one domain, class, patient or video per batch each is normalised by itself in
    training and by the mixture in evaluation, which no batch looked like: training is fine and
    evaluation collapses. Batch norm also removes exactly what tells the domains apart.

    Example: a loader that gives real images in one batch and generated ones in the next.

    Instead: shuffle the whole data set; mix domains in each batch; or keep statistics by domain
    with `bn.DomainBatchNorm2d`.

    Is the fix safe: there is none; the loader is yours.

    Source: Wu & Johnson 2021, section 5 (arXiv:2105.07576); Cochran 1977, chapter 9, for the test.
    """

    code = "BN108"
    name = "batches-differ"
    severity = "warning"
    depth = "live"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The first of the layers that see it."""
        assert context.live is not None
        found = {}
        for path, heard in context.live.norms.heard.items():
            spread = _spread(heard)
            if spread is not None and spread.ratio > spread.limit and spread.size > HARMLESS:
                found[path] = spread
        if found:
            path, spread = next(iter(found.items()))
            yield self.finding(
                path,
                f"the means of batches are {spread.size:.2g} standard deviations apart, F ="
                f" {spread.ratio:.1f} where random batches stay below {spread.limit:.1f};"
                f" so {in_layers(context, list(found))}",
                "Shuffle, mix domains in each batch, or use DomainBatchNorm",
                size=spread.size,
                ratio=spread.ratio,
                limit=spread.limit,
                layers=list(found),
            )


@dataclass(frozen=True)
class _Spread:
    ratio: float
    limit: float
    size: float


def _spread(heard: Sequence[Heard]) -> _Spread | None:
    """Of a layer's batch means, in the median channel."""
    draws = [one.draws for one in heard if one.draws is not None and len(one.draws.batches)]
    examples = sum(int(one.batches.max()) for one in draws)
    if len(draws) < _LEAST_BATCHES or examples < _LEAST_EXAMPLES:
        return None

    means = torch.stack([one.result().mean for one in draws])
    inside = torch.stack([one.result().var for one in draws]).mean(0)
    sampling = torch.stack([one.errors().mean.square() for one in draws]).mean(0)
    between = means.var(0)
    total = inside + between
    known = (sampling > 0) & total.isfinite() & sampling.isfinite()
    if not known.any():
        return None
    ratio = (between / sampling)[known].median()
    size = ((between - sampling).clamp(min=0) / total)[known].sqrt().median()

    return _Spread(float(ratio), _limit(len(draws) - 1, examples - len(draws)), float(size))


def _limit(above: int, below: int) -> float:
    """Quantile of Fisher's F (Paulson 1942: cube roots are nearly normal)."""
    z = NormalDist().inv_cdf(1 - _CHANCE)
    a, b = 2 / (9 * above), 2 / (9 * max(below, 3))
    p, q, r = (1 - b) ** 2 - z * z * b, -2 * (1 - a) * (1 - b), (1 - a) ** 2 - z * z * a
    if p <= 0:
        return float("inf")

    return float(((-q + (q * q - 4 * p * r) ** 0.5) / (2 * p)) ** 3)
