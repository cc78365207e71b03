"""Checkpoints both ways, old ones, copies of every kind."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.layers.pairs import IDS, PAIRS, twins


def trained(ours=bn.BatchNorm2d, shape=(6, 5, 4, 3), **options):
    layer = ours(5, **options)
    for _ in range(3):
        layer(torch.randn(shape))
    return layer


def assert_equal(a: nn.Module, b: nn.Module):
    assert list(a.state_dict()) == list(b.state_dict())
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=IDS)
def test_checkpoints_load_both_ways_strictly(ours, theirs, shape, dtype):
    mine, torchs = twins(ours, theirs, 5, dtype=dtype)
    mine(torch.randn(shape, dtype=dtype))
    fresh = theirs(5, dtype=dtype)
    fresh.load_state_dict(mine.state_dict(), strict=True)
    assert_equal(fresh, mine)
    back = ours(5, dtype=dtype)
    back.load_state_dict(torchs.state_dict(), strict=True)
    assert_equal(back, torchs)
    assert mine.state_dict()._metadata == torchs.state_dict()._metadata


def test_checkpoint_from_before_num_batches_tracked_loads_as_in_torch():
    state = dict(nn.BatchNorm2d(5).state_dict())
    del state["num_batches_tracked"]
    mine, torchs = bn.BatchNorm2d(5), nn.BatchNorm2d(5)
    mine.num_batches_tracked.fill_(7)
    torchs.num_batches_tracked.fill_(7)
    mine.load_state_dict(state)
    torchs.load_state_dict(state)
    assert_equal(mine, torchs)


def test_checkpoint_in_half_precision_keeps_float32_buffers():
    state = {
        k: v.half() if v.is_floating_point() else v
        for k, v in nn.BatchNorm2d(5).state_dict().items()
    }
    layer = bn.BatchNorm2d(5)
    layer.load_state_dict(state)
    assert layer.running_var.dtype == torch.float32
    with_assign = bn.BatchNorm2d(5)
    with_assign.load_state_dict(bn.BatchNorm2d(5).state_dict(), assign=True)
    assert with_assign(torch.randn(2, 5, 3, 3)).shape == (2, 5, 3, 3)


def test_wrong_size_is_reported_as_in_torch():
    with pytest.raises(RuntimeError, match="size mismatch for running_mean"):
        bn.BatchNorm2d(5).load_state_dict(bn.BatchNorm2d(4).state_dict())


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickle_and_deepcopy_keep_everything(protocol):
    layer = trained(activation="elu", slope=0.7, on_single="skip")
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer, protocol))):
        assert_equal(layer, other)
        assert repr(other) == repr(layer)
        x = torch.randn(6, 5, 4, 3)
        assert torch.equal(other(x), copy.deepcopy(layer)(x))


def test_deepcopy_does_not_share_memory():
    layer = trained()
    other = copy.deepcopy(layer)
    other(torch.randn(6, 5, 4, 3) + 100)
    assert other.num_batches_tracked.item() == layer.num_batches_tracked.item() + 1
    assert not torch.equal(other.running_mean, layer.running_mean)


def test_save_and_load_weights_only():
    layer, file = trained(), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = bn.BatchNorm2d(5)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert_equal(layer, fresh)


def test_save_and_load_of_the_whole_module():
    layer, file = trained(activation="relu"), io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    fresh = torch.load(file, weights_only=False)
    assert_equal(layer, fresh)
    assert fresh.eval()(torch.randn(2, 5, 3, 3)).min() >= 0


def test_layer_on_meta_materialises():
    layer = bn.BatchNorm2d(5, device="meta")
    assert layer.running_mean.is_meta
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(torch.randn(6, 5, 4, 3)).isfinite().all()
    assert layer.num_batches_tracked.item() == 1
    assert layer.num_nonfinite.tolist() == [0] * 5
    assert layer.num_nonfinite.device.type == "cpu"


def test_layer_made_under_a_meta_context_loads_by_assignment():
    source = trained()
    with torch.device("meta"):
        layer = bn.BatchNorm2d(5)
    layer.load_state_dict(source.state_dict(), assign=True)
    x = torch.randn(6, 5, 4, 3)
    assert torch.equal(layer.eval()(x), source.eval()(x))


def test_count_of_non_finite_batches_is_not_in_the_checkpoint():
    assert "num_nonfinite" not in bn.BatchNorm2d(5).state_dict()
    assert "num_nonfinite" in dict(bn.BatchNorm2d(5).named_buffers())


def test_swa_utils_average_and_update_bn_see_our_layer():
    model = nn.Sequential(nn.Linear(4, 5), bn.BatchNorm1d(5))
    data = [torch.randn(8, 4) for _ in range(3)]
    torch.optim.swa_utils.update_bn(data, model)
    assert model[1].num_batches_tracked.item() == 3
    want = torch.stack([model[0](d).mean(0) for d in data]).mean(0)
    torch.testing.assert_close(model[1].running_mean, want)
    assert model[1].momentum == 0.1
