"""Ranks that disagree: every one is told, by name, and the group goes on working."""

import copy
import itertools
import warnings

import pytest
import torch
import torch.distributed as dist

import batchnorm as bn
from tests.distributed.ranks import run


def rank() -> int:
    return dist.get_rank()


def different_channels():
    channels = 6 + (rank() == 1)
    layer = bn.SyncBatchNorm(channels, name="stem.bn")
    with pytest.raises(RuntimeError) as info:
        layer(torch.randn(4, channels))
    text = str(info.value)
    assert f"SyncBatchNorm at 'stem.bn' on rank {rank()} of {dist.get_world_size()}" in text
    assert "layer 1 'stem.bn' with 7 channels in float32 from rank 1" in text
    assert "with 6 channels in float32 from rank" in text


def different_dtypes():
    layer = bn.SyncBatchNorm(6)
    dtype = torch.float64 if rank() == 1 else torch.float32
    with pytest.raises(RuntimeError, match="same channels and dtype.*float64 from rank 1"):
        layer(torch.randn(4, 6, dtype=dtype))


def different_layers():
    layer = bn.SyncBatchNorm(6, name="a" if rank() == 1 else "b")
    with pytest.raises(RuntimeError, match="'a' with 6 channels in float32 from rank 1"):
        layer(torch.randn(4, 6))


def different_order():
    layers = [bn.SyncBatchNorm(6, name=name) for name in "ab"]
    x = torch.randn(4, 6)
    for layer in layers:
        layer(x)
    before = copy.deepcopy([layer.running_mean for layer in layers])
    with pytest.raises(RuntimeError, match="same layers in the same order") as info:
        layers[rank() == 1](x)
    assert "with 6 channels from rank 1." in str(info.value)
    for layer, mean in zip(layers, before, strict=True):
        assert torch.equal(layer.running_mean, mean)


def different_order_backward():
    layers = [bn.SyncBatchNorm(6) for _ in "ab"]
    outputs = [layer(torch.randn(4, 6, requires_grad=True)) for layer in layers]
    with pytest.raises(RuntimeError, match="backward of the same layers in the same order"):
        outputs[rank() == 1].sum().backward()


def poisoned(value: float) -> tuple[bn.SyncBatchNorm, torch.Tensor]:
    layer, x = bn.SyncBatchNorm(4, name="neck"), torch.randn(5, 4)
    if rank() == 1:
        x[2, 3] = value
    return layer, x


def a_rank_that_is_not_finite_is_named():
    for value in (torch.nan, torch.inf):
        layer, x = poisoned(value)
        with pytest.warns(RuntimeWarning, match="not finite.*Got 1 channels of rank 1"):
            y = layer(x)
        assert y.isnan().any(0).tolist() == [False, False, False, True]
        assert layer.num_nonfinite.tolist() == [0, 0, 0, 1]
        assert layer.running_mean[3] == 0
        assert (layer.running_mean[:3] != 0).all()


def a_rank_that_is_not_finite_stops_every_rank_if_asked():
    layer, x = poisoned(torch.nan)
    layer.on_nonfinite = "error"
    with pytest.raises(RuntimeError, match=r"'neck' on rank \d.*1 channels of rank 1"):
        layer(x)
    layer.on_nonfinite = "ignore"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layer(x)[:, 3].isnan().all()
    assert layer.num_nonfinite.tolist() == [0, 0, 0, 1]


def an_empty_rank_is_finite():
    layer = bn.SyncBatchNorm(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(0 if rank() == 1 else 5, 4))


def compiled_code_looks_too():
    layer, x = poisoned(torch.nan)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with pytest.warns(RuntimeWarning, match="not finite.*Got 1 channels of rank 1"):
        y = compiled(x)
    assert y[:, 3].isnan().all()

    layers = [bn.SyncBatchNorm(6) for _ in "ab"]
    ways = [torch.compile(layer, backend="aot_eager", fullgraph=True) for layer in layers]
    for way in ways:
        way(x.new_ones(4, 6))
    with pytest.raises(RuntimeError, match="same layers in the same order"):
        ways[rank() == 1](torch.randn(4, 6))


def the_group_still_works():
    layer = bn.SyncBatchNorm(3)
    layer(torch.full((2, 3), float(rank())))
    mean = sum(range(dist.get_world_size())) / dist.get_world_size()
    torch.testing.assert_close(layer.running_mean, torch.full((3,), 0.1 * mean))


def export_in_training_is_refused():
    layer = bn.SyncBatchNorm(3)
    with pytest.raises(Exception, match="exported program has no other ranks"):
        torch.export.export(layer, (torch.randn(4, 3),))
    torch.export.export(layer.eval(), (torch.randn(4, 3),))


FAULTS = [
    different_channels,
    different_dtypes,
    different_layers,
    different_order,
    different_order_backward,
    a_rank_that_is_not_finite_is_named,
    a_rank_that_is_not_finite_stops_every_rank_if_asked,
    an_empty_rank_is_finite,
    compiled_code_looks_too,
    export_in_training_is_refused,
]

if __name__ == "__main__":
    run(list(itertools.chain(*((fault, the_group_still_works) for fault in FAULTS))), seconds=60)
