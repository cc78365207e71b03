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
from ._messages import check_headers, name_of, pack, unpack
from ._phases import Proposal, agree_by_sums

__all__ = ["OnNonfinite", "SumOverRanks", "merge_in_rank_order", "merge_over_ranks"]

OnNonfinite = Literal["warn", "error", "ignore"]
"""What to do when a rank brings statistics that are not finite: say it, stop every rank, nothing.
Whatever it is, the output of every rank is NaN in these channels and nothing enters memory."""

_TAGS = 63  # their squares, summed over a thousand ranks, are exact in float32
_functorch_active = torch._C._are_functorch_transforms_active


def merge_over_ranks(
    lane: Lane, seat: Seat, header: Tensor, own: Proposal, on_nonfinite: OnNonfinite
) -> Proposal:
    """Mean, biased variance and count over all ranks: the same bits on every one.

    Args:
        lane: the way of this call.
        seat: the caller's.
        header: of the layer's messages, int64 ``(1,)``.
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

    everyone = gather(seat, pack(mean, var, count, header))
    readable = everyone.device.type == "cpu" or on_nonfinite == "error"
    if readable and lane is Lane.COMPILED:
        everyone = torch.ops.batchnorm_ranks.check(
            everyone, mean.dtype, seat.group_name, seat.rank, on_nonfinite
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
        summed = total(self.seat, torch.cat([sum_dy, sum_dy_xhat, self._tags(sum_dy)]))
        if not torch.compiler.is_compiling():
            summed = self._checked(summed)

        return summed[:channels], summed[channels:-3]

    def _tags(self, like: Tensor) -> Tensor:
        """1, t and t²; zeros from compiled code, which does not know which layer it serves."""
        tag = self.seat.slot % _TAGS + 1 if self.seat.slot else 0
        return torch.stack([like.new_full((), n) for n in (tag > 0, tag, tag * tag)])

    def _checked(self, summed: Tensor) -> Tensor:
        # Equal numbers, and only they, have (Σt)² = n Σt².
        ranks, tags, squares = summed[-3:].detach()
        same = tags * tags == ranks * squares
        if summed.device.type != "cpu" or _functorch_active():
            return torch.where(same, summed, torch.nan)
        if not bool(same):
            self._refuse()

        return summed

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
    "check(Tensor everyone, ScalarType dtype, str group_name, int rank, str on_nonfinite)"
    " -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _check_op(
    everyone: Tensor, dtype: torch.dtype, group_name: str, rank: int, on_nonfinite: OnNonfinite
) -> Tensor:
    mine = int(unpack(everyone, dtype)[3][rank])
    seat = Seat(group_name, rank, everyone.shape[0], name_of(group_name, mine))
    _check(everyone, dtype, seat, on_nonfinite)

    return everyone.clone()


_LIBRARY.impl("check", _check_op, "CompositeExplicitAutograd")
torch.library.register_fake(
    "batchnorm_ranks::check", lambda everyone, *_: torch.empty_like(everyone), lib=_LIBRARY
)
