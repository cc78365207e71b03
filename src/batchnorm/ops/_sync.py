"""Statistics and sums over the ranks of a group: one message each way."""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .._errors import explain
from ._collectives import Seat, gather, total
from ._lanes import Lane
from ._messages import check_headers, name_of, pack, unpack
from ._phases import Proposal, agree_by_sums

__all__ = ["OnNonfinite", "SumOverRanks", "merge_all_ranks", "merge_over_ranks"]

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
        own: of this rank; with count 0 the other two are 0.
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
    stats, counts, codes = unpack(everyone, mean.dtype)
    if readable and lane is Lane.EAGER:
        check_headers(seat, codes.flatten().tolist())
    elif not readable:
        # Nobody looks: then at least nothing wrong may look right.
        stats = torch.where((codes == codes[0]).all(), stats, torch.nan)

    merged = merge_all_ranks(stats, counts)
    if (
        readable
        and lane is Lane.EAGER
        and on_nonfinite != "ignore"
        and not bool((merged[0] + merged[1]).isfinite().all())
    ):
        _say_nonfinite(stats, counts, seat, on_nonfinite)

    return merged


def merge_all_ranks(stats: Tensor, counts: Tensor) -> Proposal:
    r"""Mean, biased variance and count of all ranks' values together.

    .. math:: \mu = \sum_r s_r \mu_r \qquad \sigma^2 = \sum_r s_r (\sigma_r^2 + (\mu_r - \mu)^2)
        \qquad s_r = m_r / \textstyle\sum_q m_q

    Args:
        stats: ``(ranks, 2·C)``, means and biased variances; 0 where the count is.
        counts: int64 ``(ranks, 1)``.

    Returns:
        ``mean (C,)``, ``var (C,)`` and ``count ()``: the same bits wherever it is computed.

    Numerics: the mean is refined once by the mean of the differences, so that its error is one
        rounding; the variance never subtracts.

    Costs: 2·log2(ranks) + 13 small operations.
    """
    count = counts.sum()
    share = counts.to(stats.dtype) / count.clamp(min=1).to(stats.dtype)

    rough, within = _fixed_sum(stats * share).chunk(2)
    apart = stats[:, : rough.shape[0]] - rough
    moved = apart * share
    correction, between = _fixed_sum(torch.cat([moved, moved * apart], 1)).chunk(2)

    return rough + correction, within + between, count


def _fixed_sum(rows: Tensor) -> Tensor:
    """Sum over dimension 0 in an order that depends on nothing but the number of rows."""
    while (n := rows.shape[0]) > 1:
        half = n // 2
        folded = rows[:half] + rows[n - half :]
        rows = folded if n % 2 == 0 else torch.cat([folded, rows[half : half + 1]])

    return rows[0]


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
        # By filling: a copy from the host would wait for the device.
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


def _say_nonfinite(stats: Tensor, counts: Tensor, seat: Seat, on_nonfinite: OnNonfinite) -> None:
    """Follow ``on_nonfinite`` if a rank that has values is not finite."""
    means, variances = stats.chunk(2, 1)
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
    stats, counts, headers = unpack(everyone, dtype)
    codes: list[int] = headers.flatten().tolist()
    seat = Seat(group_name, rank, len(codes), name_of(group_name, codes[rank]))
    check_headers(seat, codes)
    if on_nonfinite != "ignore":
        _say_nonfinite(stats, counts, seat, on_nonfinite)

    return everyone.clone()


_LIBRARY.impl("check", _check_op, "CompositeExplicitAutograd")
torch.library.register_fake(
    "batchnorm_ranks::check", lambda everyone, *_: torch.empty_like(everyone), lib=_LIBRARY
)
