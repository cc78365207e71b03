"""What the ranks run."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from batchnorm.stats import adapt, recalibrate
from tests.stats.nets import NORMS, assert_state, by_hand, images, net, state


def recalibrated(rank: int) -> None:
    """All checks in one launch."""
    the_union_is_measured(rank)
    ranks_may_stop_together(rank)
    data_parallel_models_do_not_broadcast(rank)
    a_failure_is_everyones(rank)
    different_models_are_told(rank)
    a_rank_may_work_alone(rank)
    adaptation_counts_everyones_examples(rank)


def share(rank: int) -> list[torch.Tensor]:
    """Uneven: one rank has three batches, the other one, and all values differ."""
    whole = images((8, 7, 5, 4))
    return whole[:3] if rank == 0 else whole[3:]


def the_union_is_measured(rank: int) -> None:
    for order in ("together", "layerwise"):
        model = net()
        want = by_hand(model, images((8, 7, 5, 4)), order)
        report = recalibrate(model, share(rank), order=order)
        for at, (mean, var) in zip(NORMS, want, strict=True):
            torch.testing.assert_close(model[at].running_mean, mean)
            torch.testing.assert_close(model[at].running_var, var)
            assert_same_bits(model[at].running_mean)
            assert_same_bits(model[at].running_var)
        assert [layer.batches for layer in report.layers] == [4] * 3


def ranks_may_stop_together(rank: int) -> None:
    g = torch.Generator().manual_seed(rank)
    data = [torch.randn(64, 2, generator=g) for _ in range(12 if rank else 500)]
    layer = nn.BatchNorm1d(2)
    report = recalibrate(layer, data, tolerance=0.06)
    assert report.stopped == "interval"
    assert report.batches < 100
    assert_same_bits(layer.running_mean)


def data_parallel_models_do_not_broadcast(rank: int) -> None:
    # fvcore#152: ranks disagree under DDP. Its forward would also wait for the shorter rank.
    model = DistributedDataParallel(net())
    recalibrate(model, share(rank))
    for tensor in model.module.buffers():
        assert_same_bits(tensor.double())


def a_failure_is_everyones(rank: int) -> None:
    for order in ("together", "layerwise"):
        model = net()
        before = state(model)
        data = [*share(rank)[:1], "no tensor"] if rank == 1 else share(rank)
        error, message = (TypeError, "must be a tensor") if rank == 1 else (
            RuntimeError, "all ranks must come through.*rank 1"
        )  # fmt: skip
        with pytest.raises(error, match=message):
            recalibrate(model, data, order=order)
        assert_state(model, before)


def different_models_are_told(rank: int) -> None:
    with pytest.raises(RuntimeError, match="same layers in the same order"):
        recalibrate(nn.BatchNorm1d(2 + rank), [torch.randn(4, 2 + rank)])


def a_rank_may_work_alone(rank: int) -> None:
    layer = nn.BatchNorm1d(2)
    x = torch.randn(8, 2)
    if rank == 0:
        recalibrate(layer, [x], across_ranks=False)
        torch.testing.assert_close(layer.running_mean, x.mean(0))


def adaptation_counts_everyones_examples(rank: int) -> None:
    model, alone = net(), net()
    report = adapt(model, share(rank), "mix", prior=24)
    adapt(alone, images((8, 7, 5, 4)), "mix", prior=24, across_ranks=False)
    assert (report.examples, report.share) == (24, 0.5)
    for at in NORMS:
        torch.testing.assert_close(model[at].running_var, alone[at].running_var)
        assert_same_bits(model[at].running_var)
    with pytest.raises(RuntimeError, match="tent.*one process.*2 ranks"):
        adapt(model, share(rank), "tent")


def assert_same_bits(tensor: torch.Tensor) -> None:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    assert all(torch.equal(part, parts[0]) for part in parts)
