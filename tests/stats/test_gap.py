"""The train-eval gap: standard errors that are right, and nothing changed in the model."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.stats import recalibrate, train_eval_gap
from tests.stats.nets import F64, NORMS, assert_state, images, net, state


def test_errors_of_a_calibrated_layer_are_about_one():
    # Root mean square over many channels of what should be standard normal.
    channels = 4000
    layer = nn.BatchNorm1d(channels).double()
    row = train_eval_gap(layer, torch.randn(200, channels, dtype=F64)).layers[0]
    assert row.mean_size == pytest.approx(1, abs=5 / (2 * channels) ** 0.5)
    # The error of a variance is itself estimated, by 200 examples.
    assert row.var_size == pytest.approx(1, abs=5 / (2 * channels) ** 0.5 + 5 / 200**0.5)
    assert row.share < 0.02


def test_positions_of_one_example_are_not_taken_for_independent():
    # Each example is constant over 50 positions: there are N draws, not 50·N.
    channels = 2000
    x = torch.randn(100, channels, 1, dtype=F64).expand(-1, -1, 50)
    row = train_eval_gap(nn.BatchNorm1d(channels).double(), x).layers[0]
    assert row.mean_size == pytest.approx(1, abs=0.1)


def test_shift_and_scale_are_measured_in_closed_form():
    x = torch.randn(400, 2, dtype=F64)
    x = (x - x.mean(0)) / x.std(0, correction=0)  # mean 0, biased variance 1
    layer = nn.BatchNorm1d(2, eps=1e-12).double()
    layer.running_mean.copy_(torch.tensor([1.0, 0.0]))
    layer.running_var.copy_(torch.tensor([1.0, 4.0]))
    row = train_eval_gap(layer, x).layers[0]
    # se of the mean: std of the examples over √N, with the unbiased std.
    se = (400 / 399) ** 0.5 / 400**0.5
    torch.testing.assert_close(row.mean_errors, torch.tensor([-1 / se, 0.0], dtype=F64))
    torch.testing.assert_close(row.ratio, (399 / 400, 4 * 399 / 400))
    # Channel 0 moves by 1, channel 1 halves: mean square (1 + 0.25) / 2.
    assert row.output == pytest.approx((1.25 / 2) ** 0.5)
    assert row.share == 1.0


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, bn.BatchNorm2d])
def test_output_is_what_the_layer_does_to_its_input(kind):
    layer = kind(3).double()
    with torch.no_grad():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    x = images()[0]
    report = train_eval_gap(layer, x)
    evaluated = layer.eval()(x)
    trained = nn.functional.batch_norm(x, None, None, training=True)
    want = (evaluated - trained).square().mean().sqrt()
    assert report.layers[0].output == pytest.approx(want.item())
    assert report.output == pytest.approx((want / trained.std(correction=0)).item())


def test_recalibration_closes_the_gap():
    model, x = net(), torch.randn(64, 3, 6, 6, dtype=F64) * 3 + 2
    before = train_eval_gap(model, x)
    recalibrate(model, [x])
    after = train_eval_gap(model, x)
    for first, second in zip(before.layers, after.layers, strict=True):
        assert first.share > 0.5
        assert second.mean_size < 1e-6
        assert second.output < 0.01 < first.output


def test_loss_is_attributed_to_the_layer_that_is_off():
    torch.manual_seed(0)
    model = net()
    x, target = torch.randn(64, 3, 6, 6, dtype=F64), torch.randint(5, (64,))
    recalibrate(model, [x])
    model[8].running_mean.add_(torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0]))

    def loss(output, batch):
        return nn.functional.cross_entropy(output, batch[1])

    report = train_eval_gap(model, (x, target), loss=loss)
    losses = {layer.path: layer.loss for layer in report.layers}
    assert report.worst.path == "8"
    assert losses["8"] == pytest.approx(report.loss_eval, abs=0.05)
    assert abs(losses["8"] - report.loss_train) > 0.05
    for path in ("1", "4"):
        assert losses[path] == pytest.approx(report.loss_train, abs=0.02)
    text = str(report)
    assert "loss" in text
    assert "with running statistics" in text


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(training):
    model = net().train(training)
    before = state(model)
    train_eval_gap(model, images()[0], loss=lambda output, batch: output.sum())
    assert_state(model, before)
    with pytest.raises(TypeError, match="must be a tensor"):
        train_eval_gap(model, 3)
    with pytest.raises(KeyError):
        train_eval_gap(model, images()[0], loss=lambda output, batch: {}["loss"])
    assert_state(model, before)


def test_masked_positions_do_not_count():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = bn.BatchNorm1d(2)

        def forward(self, x, keep):
            return self.norm(x, mask=keep)

    x = torch.randn(30, 2, 7, dtype=F64)
    keep = torch.rand(30, 7) < 0.7
    keep[3] = False
    rows = [
        train_eval_gap(Net().double(), {"x": x.masked_fill(~keep[:, None], fill), "keep": keep})
        for fill in (0.0, float("nan"))
    ]
    assert torch.equal(rows[0].layers[0].mean_errors, rows[1].layers[0].mean_errors)
    real = x.movedim(1, -1)[keep]
    off = rows[0].layers[0].mean_errors
    assert torch.equal(off.sign(), real.mean(0).sign())


def test_layers_without_an_answer_are_named():
    model = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.BatchNorm1d(2)})
    report = train_eval_gap(model, torch.randn(8, 2), forward=lambda m, x: m["a"](x))
    assert report.left == {"b": "saw no values"}
    assert "left: b: saw no values" in str(report)
    with pytest.raises(ValueError, match="must reach a batch norm"):
        train_eval_gap(model, torch.randn(8, 2), forward=lambda m, x: x)
    with pytest.raises(ValueError, match="two examples"):
        train_eval_gap(nn.BatchNorm1d(2), torch.randn(1, 2, 9))
    with pytest.raises(ValueError, match="batch norm layers"):
        train_eval_gap(nn.Linear(2, 2), torch.randn(8, 2))


def test_table_has_a_row_per_layer():
    lines = str(train_eval_gap(net(), images()[0])).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == [str(at) for at in NORMS]
    assert "model output differs by" in lines[-1]


def test_plot_shows_every_layer():
    alt = pytest.importorskip("altair")
    chart = train_eval_gap(net(), images()[0]).plot()
    assert isinstance(chart, alt.HConcatChart)
    drawn = chart.to_dict()
    assert {row["layer"] for row in drawn["hconcat"][1]["data"]["values"]} == {"1", "4", "8"}


def test_plot_without_altair_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(RuntimeError, match=r"batchnorm\[lab\]"):
        train_eval_gap(net(), images()[0]).plot()
