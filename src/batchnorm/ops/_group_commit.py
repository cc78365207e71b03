"""Statistics of several groups enter memory, each in a row of its own."""

from torch import Tensor

from ._commit import commit
from ._lanes import Lane

__all__ = ["commit_groups"]

# running_mean, running_var, num_batches_tracked, num_nonfinite; mean, var, count
Buffers = tuple[Tensor, Tensor, Tensor, Tensor]
Proposal = tuple[Tensor, Tensor, Tensor]


def commit_groups(lane: Lane, buffers: Buffers, proposal: Proposal, momentum: float | None) -> None:
    """Write the groups' statistics into the buffers; absent groups keep theirs.

    Args:
        lane: the way of the call that made the proposal.
        buffers: ``running_mean (G, C)``, ``running_var (G, C)``, ``num_batches_tracked (G,)``,
            ``num_nonfinite (G, C)``.
        proposal: ``mean (G, C)``, ``var (G, C)``, biased, and ``count``, ``(G, 1)`` or ``(G, C)``.
        momentum: torch's weight of the new; None: the average of a group's batches.
    """
    if lane not in (Lane.EAGER, Lane.COMPILED):
        commit(lane, buffers, proposal, momentum)
        return

    # As one batch of G·C channels. The operator has one counter of batches, from which it subtracts
    # a channel's lost ones; so each group's counter goes in as lost ones, below zero.
    running_mean, running_var, tracked, nonfinite = buffers
    mean, var, count = proposal
    before = tracked.unsqueeze(1)
    missed = (nonfinite - before).flatten()
    committed = tracked.new_zeros(())  # stays 0 in a recomputation
    commit(
        lane,
        (running_mean.view(-1), running_var.view(-1), committed, missed),
        (mean.flatten(), var.flatten(), count.expand_as(mean).flatten()),
        momentum,
    )
    nonfinite.copy_(missed.view_as(nonfinite) + before)
    tracked.add_((count > 0).any(1) * committed)
