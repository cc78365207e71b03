"""What the ranks run."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import batchnorm as bn
from batchnorm.watch import WatchWarning, read
from tests.watch.nets import assert_same_bits, batches, hooks, net, train


def watched(rank: int) -> None:
    """All checks in one launch."""
    one_rank_writes_everyones_numbers(rank)
    training_is_the_same(rank)
    ranks_that_differ_are_told(rank)
    each_for_itself(rank)


def one_rank_writes_everyones_numbers(rank: int) -> None:
    layer = DistributedDataParallel(nn.Sequential(bn.BatchNorm1d(3), nn.Sigmoid()))
    g = torch.Generator().manual_seed(0)
    parts = torch.randn(24, 3, generator=g).split([16, 8])
    paths = [Path(tempfile.gettempdir()) / f"watch-{dist.get_rank()}.jsonl"]
    paths[0].unlink(missing_ok=True)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    with bn.watch(layer, to=paths[0], optimizer=optimizer, every=1, on_alert=None) as watching:
        layer(parts[rank]).sum().backward()
        optimizer.step()
    assert paths[0].exists() == (rank == 0)
    assert bool(watching.sinks) == (rank == 0)
    if rank == 0:
        recording = read(paths[0])
        row = recording.layers[0]
        whole = torch.cat(parts)
        assert recording.run["ranks"] == 2
        assert row["samples"] == 12  # what one rank's normalisation sees, on average
        assert row["in_mean"] == pytest.approx(whole.mean().item(), abs=1e-6)
        assert row["in_std"] == pytest.approx(whole.std(correction=0).item(), abs=1e-6)
        assert row["in_p50"] == pytest.approx(whole.quantile(0.5).item(), abs=1e-6)
        assert sum(row["in_hist"]) == whole.numel()


def training_is_the_same(rank: int) -> None:
    alone, watched = net(), net()
    train(DistributedDataParallel(alone))
    model = DistributedDataParallel(watched)
    train(model, watcher=lambda o: bn.watch(model, optimizer=o, every=2, on_alert=None))
    assert_same_bits(alone, watched)
    assert hooks(watched) == 0


def ranks_that_differ_are_told(rank: int) -> None:
    model = net()
    with bn.watch(model, every=1, on_alert=None, modules=["1"] if rank else ["5"]) as watching:
        model(batches(1)[0][0])
        with pytest.warns(WatchWarning, match="measured other layers"):
            watching.step()


def each_for_itself(rank: int) -> None:
    if rank == 1:
        model = net()
        with bn.watch(model, every=1, on_alert=None, across_ranks=False) as watching:
            model(batches(1)[0][0])
            watching.step()
        assert watching.recording.layers
