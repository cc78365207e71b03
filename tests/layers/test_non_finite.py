"""A non-finite batch does not enter the running statistics; it is counted and visible."""

import pytest
import torch
from torch import nn

import batchnorm as bn

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5, 5)], ids=str)
def test_only_the_bad_channel_is_skipped(shape, bad, momentum):
    # AMP overflow poisons torch's running statistics for ever (pytorch#88474, #90342).
    kind = bn.BatchNorm1d if len(shape) == 2 else bn.BatchNorm2d
    layer, clean = kind(3, momentum=momentum), kind(3, momentum=momentum)
    x = torch.randn(shape)
    dirty = x.clone()
    dirty[2, 1] = bad
    clean(x)
    layer(dirty)
    for c in (0, 2):
        assert layer.running_mean[c] == clean.running_mean[c]
        assert layer.running_var[c] == clean.running_var[c]
    assert layer.running_mean[1] == 0
    assert layer.running_var[1] == 1
    assert layer.num_nonfinite.tolist() == [0, 1, 0]
    assert layer.num_batches_tracked.item() == 1
    assert layer.eval()(x).isfinite().all()


def test_output_shows_the_bad_channel_as_in_torch():
    x = torch.randn(8, 3)
    x[0, 1] = float("nan")
    y = bn.BatchNorm1d(3)(x)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


def test_count_is_visible_in_the_text():
    layer = bn.BatchNorm1d(3)
    for _ in range(4):
        layer(torch.full((2, 3), float("inf")))
    assert layer.num_nonfinite.tolist() == [4, 4, 4]
    assert "nonfinite" in repr(layer)
    assert "4" in layer.extra_repr().split("nonfinite")[1]


def test_training_goes_on_after_a_bad_batch():
    layer = bn.BatchNorm1d(3)
    good = torch.randn(64, 3) * 2 + 5
    layer(torch.full((4, 3), float("nan")))
    for _ in range(100):
        layer(good)
    torch.testing.assert_close(layer.running_mean, good.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.running_var, good.var(0), rtol=1e-3, atol=1e-4)


def test_float16_overflow_of_the_layer_before_is_skipped():
    layer = bn.BatchNorm1d(2).half()
    x = torch.randn(8, 2, dtype=torch.float16)
    layer(x * 1e6)  # inf in float16
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.num_nonfinite.tolist() == [1, 1]


def test_overflowing_variance_of_finite_input_is_not_committed():
    layer = bn.BatchNorm1d(1)
    layer(torch.tensor([[3e38], [-3e38]]))
    assert layer.running_var.isfinite().all()
    assert layer.num_nonfinite.tolist() == [1]


def test_count_is_reset_with_the_statistics():
    layer = bn.BatchNorm1d(1)
    layer(torch.full((2, 1), float("nan")))
    layer.reset_running_stats()
    assert layer.num_nonfinite.tolist() == [0]
    assert "nonfinite" not in repr(layer)


def test_bad_padding_is_no_bad_batch():
    layer = bn.BatchNorm1d(3)
    x = torch.randn(8, 3)
    x[5] = float("nan")
    mask = torch.ones(8, dtype=torch.bool)
    mask[5] = False
    layer(x, mask=mask)
    assert layer.num_nonfinite.tolist() == [0, 0, 0]
    kept = x[mask]
    torch.testing.assert_close(layer.running_mean, 0.1 * kept.mean(0))


def test_eval_counts_nothing():
    layer = bn.BatchNorm1d(3).eval()
    layer(torch.full((2, 3), float("nan")))
    assert layer.num_nonfinite.tolist() == [0, 0, 0]


def test_state_of_a_model_stays_finite_under_gradient_scaling():
    # The scaler skips the step on overflow; the running statistics must survive it too.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), bn.BatchNorm1d(3))
    with torch.no_grad():
        model[0].weight.fill_(float("inf"))
    model(torch.randn(8, 4))
    assert all(v.isfinite().all() for k, v in model.state_dict().items() if "running" in k)
