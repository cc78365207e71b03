"""Statistics and sums over the ranks of a group: one message each way."""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .._errors import explain
from .._types import BatchStats
from ._collectives import Seat, gather, total
from ._lanes import Lane
from ._messages import check_headers, pack, unpack
from ._phases import Proposal, agree_by_sums

__all__ = ["OnNonfinite", "SumOverRanks", "merge_in_rank_order", "merge_over_ranks"]

OnNonfinite = Literal["warn", "error", "ignore"]
"""What to do when a rank brings statistics that are not finite: say it, stop every rank, nothing.
Whatever it is, the output of every rank is NaN in these channels and nothing enters memory."""

_TAGS = 64  # the square of a tag, summed over ranks, stays exact in float32
_functorch_active = torch._C._are_functorch_transforms_active


def merge_over_ranks(
    lane: Lane, seat: Seat, own: Proposal, on_nonfinite: OnNonfinite = "ignore"
) -> Proposal:
    """Mean, biased variance and count over all ranks: the same bits on every one.

    Args:
        lane: the way of this call.
        seat: the caller's.
        own: of this rank; count 0 is neutral, whatever the other two are.
        on_nonfinite: read only where reading costs nothing (on the CPU), or for ``"error"``.

    Raises:
        RuntimeError: a rank is missing or calls another layer; a rank is not finite and
            ``on_nonfinite="error"``.
    """
    mean, var, count = own
    if lane is Lane.PLAIN:
        whole = total(seat, count)
        return *agree_by_sums(SumOverRanks(seat), mean, var, count, whole), whole

    everyone = gather(seat, pack(seat, mean, var, count))
    readable = everyone.device.type == "cpu" or on_nonfinite == "error"
    if readable and lane is Lane.COMPILED:
        everyone = torch.ops.batchnorm_ranks.check(
            everyone, mean.dtype, seat.who, seat.rank, on_nonfinite
        )
    elif readable:
        _check(everyone, mean.dtype, seat, on_nonfinite)

    means, variances, counts, codes = unpack(everyone, mean.dtype)
    if not readable:
        # Nobody looks: then at least nothing wrong may look right.
        means = torch.where((codes == codes[0]).all(), means, torch.nan)
    merged = merge_in_rank_order(BatchStats(counts, means, variances))

    return merged.mean, merged.var, merged.count


def merge_in_rank_order(stats: BatchStats) -> BatchStats:
    """Statistics ``(ranks, C)`` as one, by pairs of neighbours: no sum whose order may vary.

    Args:
        stats: ``mean`` and ``var`` ``(ranks, C)``, ``count`` ``(ranks, 1)``.

    Returns:
        ``mean`` and ``var`` ``(C,)``, ``count`` ``()``.

    Costs: log2(ranks) merges.
    """
    count, mean, var = stats.count, stats.mean, stats.var
    while (ranks := mean.shape[0]) > 1:
        even = ranks // 2 * 2
        pairs = BatchStats(count[0:even:2], mean[0:even:2], var[0:even:2]).merge(
            BatchStats(count[1:even:2], mean[1:even:2], var[1:even:2])
        )
        count = torch.cat([pairs.count, count[even:]])
        mean = torch.cat([pairs.mean, mean[even:]])
        var = torch.cat([pairs.var, var[even:]])

    return BatchStats(count.reshape(()), mean[0], var[0])


@dataclass(frozen=True)
class SumOverRanks:
    """``agree`` of the backward: one all-reduce, with a tag that tells the layers apart."""

    seat: Seat

    def __call__(self, sum_dy: Tensor, sum_dy_xhat: Tensor) -> tuple[Tensor, Tensor]:
        """Both sums over all ranks.

        Raises:
            RuntimeError: a rank is missing, or in the backward of another layer.
        """
        channels = sum_dy.shape[0]
        tag = float(self.seat.slot % _TAGS)
        tags = (sum_dy.new_full((1,), tag), sum_dy.new_full((1,), tag * tag))
        summed = total(self.seat, torch.cat([sum_dy, sum_dy_xhat, *tags]))
        # Equal numbers, and only they, have mean(t)² = mean(t²).
        mine, square = summed[-2], summed[-1]
        same = mine * mine == self.seat.size * square

        if sum_dy.device.type == "cpu" and not (
            torch.compiler.is_compiling() or _functorch_active()
        ):
            if not bool(same):
                self._refuse()
            return summed[:channels], summed[channels:-2]

        summed = torch.where(same, summed, torch.nan)
        return summed[:channels], summed[channels:-2]

    def _refuse(self) -> None:
        raise RuntimeError(
            explain(
                self.seat.place,
                "all ranks must run the backward of the same layers in the same order",
                f"layer {self.seat.slot} here, another one elsewhere",
                "Look for a branch that only some ranks take",
            )
        )


def _check(everyone: Tensor, dtype: torch.dtype, seat: Seat, on_nonfinite: OnNonfinite) -> None:
    """All headers are equal; all statistics finite, or ``on_nonfinite`` is followed."""
    means, variances, counts, codes = unpack(everyone, dtype)
    check_headers(seat, codes.flatten().tolist())
    if on_nonfinite == "ignore":
        return

    finite = means.isfinite() & variances.isfinite() | (counts == 0)
    if bool(finite.all()):
        return

    bad = [
        f"{int(row.numel() - row.count_nonzero())} channels of rank {rank}"
        for rank, row in enumerate(finite)
        if not bool(row.all())
    ]
    text = explain(
        seat.place,
        "statistics are not finite; every rank's output is NaN there and nothing is committed",
        ", ".join(bad),
        "Look at the input of that rank; on_nonfinite='error' stops every rank here",
    )
    if on_nonfinite == "error":
        raise RuntimeError(text)
    warnings.warn(text, RuntimeWarning, stacklevel=2)


# The check as an operator, so that compiled code can look at values too.
_LIBRARY = torch.library.Library("batchnorm_ranks", "DEF")
_LIBRARY.define(
    "check(Tensor everyone, ScalarType dtype, str who, int rank, str on_nonfinite) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _check_op(
    everyone: Tensor, dtype: torch.dtype, who: str, rank: int, on_nonfinite: OnNonfinite
) -> Tensor:
    _check(everyone, dtype, Seat("", rank, everyone.shape[0], who), on_nonfinite)
    return everyone.clone()


_LIBRARY.impl("check", _check_op, "CompositeExplicitAutograd")
torch.library.register_fake(
    "batchnorm_ranks::check", lambda everyone, *_: torch.empty_like(everyone), lib=_LIBRARY
)
