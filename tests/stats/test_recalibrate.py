"""Recalibration: the population of the data, whatever the batches; a transaction on any exit."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.stats import recalibrate
from tests.stats.nets import NORMS, assert_state, by_hand, images, net, rows, state

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
ORDERS = ["together", "layerwise"]


@pytest.mark.parametrize("order", ORDERS)
def test_statistics_are_those_of_all_data_at_once(order):
    model, data = net(), images()
    want = by_hand(model, data, order)
    report = recalibrate(model, data, order=order)
    for at, (mean, var) in zip(NORMS, want, strict=True):
        torch.testing.assert_close(model[at].running_mean, mean)
        torch.testing.assert_close(model[at].running_var, var)
        assert model[at].num_batches_tracked.item() == len(data)
    assert [layer.path for layer in report.layers] == [str(at) for at in NORMS]
    assert report.stopped == "end of data"


def test_layerwise_does_not_depend_on_how_the_data_is_cut():
    whole = torch.cat(images())
    models = [net(), net()]
    for model, sizes in zip(models, ([8, 8, 11], [1, 26]), strict=True):
        recalibrate(model, whole.split(sizes), order="layerwise")
    for at in NORMS:
        torch.testing.assert_close(models[0][at].running_mean, models[1][at].running_mean)
        torch.testing.assert_close(models[0][at].running_var, models[1][at].running_var)


def test_the_faults_of_update_bn_are_not_ours():
    # update_bn: 0.996 where the population variance is 26.2; mean 4.74 for 0.05 (ragged).
    g = torch.Generator().manual_seed(0)
    low, high = torch.randn(2, 1000, 1, generator=g) + torch.tensor([0.0, 10.0]).view(2, 1, 1)
    layer = nn.BatchNorm1d(1)
    recalibrate(layer, [low, high])
    assert layer.running_var.item() == pytest.approx(torch.cat([low, high]).var().item(), rel=1e-6)
    assert layer.running_var.item() > 25
    recalibrate(layer, [low, high[:2]])
    assert abs(layer.running_mean.item()) < 0.1


@pytest.mark.parametrize("order", ORDERS)
def test_only_statistics_change_and_dropout_is_off(order):
    model = net().train()
    model[4].eval()
    model[1].weight.requires_grad_(False)
    model[4].momentum = None
    rng, before = torch.get_rng_state(), state(model)
    recalibrate(model, images(), order=order)
    assert_state(model, before, but=BUFFERS)
    assert torch.equal(torch.get_rng_state(), rng)


class Boom(Exception):
    pass


class Failing(list):
    def __iter__(self):
        yield from super().__iter__()
        raise Boom


@pytest.mark.parametrize("order", ORDERS)
def test_model_is_as_it_was_when_the_loader_raises(order):
    # fvcore leaves momentum 1.0 and its hooks when the loader is short.
    model = net().train()
    before = state(model)
    with pytest.raises(Boom):
        recalibrate(model, Failing(images()), order=order)
    assert_state(model, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Boom])
@pytest.mark.parametrize("order", ORDERS)
def test_model_is_as_it_was_when_the_forward_raises(order, error):
    model = net().train()
    before = state(model)
    seen = 0

    def forward(model, batch):
        nonlocal seen
        seen += 1
        if seen > 6:
            raise error
        model(batch)

    with pytest.raises(error):
        recalibrate(model, images() * 3, order=order, forward=forward)
    assert_state(model, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_report_says_how_far_the_statistics_moved(dtype):
    layer = nn.BatchNorm1d(2, eps=1e-9).to(dtype)
    layer.running_var.fill_(4.0)
    x = torch.tensor([[1.0, -9.0], [3.0, -11.0]], dtype=dtype)
    row = recalibrate(layer, [x]).layers[0]
    assert row.shift == pytest.approx(5.0)
    assert row.ratio == pytest.approx((0.5, 0.5))
    assert (row.count, row.batches, row.kept, row.lost) == (2, 1, 0, 0)


def test_undo_gives_the_old_statistics_back():
    model = net()
    before = state(model)
    report = recalibrate(model, images())
    with pytest.raises(AssertionError):
        assert_state(model, before)
    report.undo()
    assert_state(model, before)


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: (x, 1), lambda x: [x, {"y": x}], lambda x: {"input": x}]
)
def test_batches_may_be_tensors_tuples_and_dicts(wrap):
    model, same = net(), net()
    recalibrate(model, [wrap(x) for x in images()])
    recalibrate(same, images())
    assert torch.equal(model[4].running_var, same[4].running_var)


def test_batch_that_nobody_understands_is_refused():
    model = net()
    before = state(model)
    with pytest.raises(TypeError, match=r"must be a tensor.*Got a int.*forward="):
        recalibrate(model, [3])
    assert_state(model, before)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = bn.BatchNorm1d(3)

    def forward(self, x, keep):
        return self.norm(x, mask=keep)


def test_masks_that_the_model_passes_are_honoured():
    g = torch.Generator().manual_seed(0)
    xs = [torch.randn(4, 3, 5, generator=g, dtype=torch.float64) for _ in range(3)]
    masks = [torch.rand(4, 5, generator=g) < 0.6 for _ in xs]
    model = Masked().double()
    padded = [x.masked_fill(~m[:, None], float("nan")) for x, m in zip(xs, masks, strict=True)]
    recalibrate(model, [{"x": x, "keep": m} for x, m in zip(padded, masks, strict=True)])
    real = torch.cat([x.movedim(1, -1)[m] for x, m in zip(xs, masks, strict=True)])
    torch.testing.assert_close(model.norm.running_mean, real.mean(0))
    torch.testing.assert_close(model.norm.running_var, real.var(0))


def test_mask_of_the_batch_serves_layers_without_one():
    # The last batch is filled up with repetitions.
    data = images((8, 8))
    filled = [data[0], torch.cat([data[1][:3], data[1][:1].expand(5, -1, -1, -1)])]
    real = [torch.ones(8, dtype=torch.bool), torch.arange(8) < 3]
    batches = list(zip(filled, real, strict=True))
    model, want = net(), net()
    recalibrate(model, batches, order="layerwise", mask=lambda batch: batch[1])
    recalibrate(want, [data[0], data[1][:3]], order="layerwise")
    for at in NORMS:
        torch.testing.assert_close(model[at].running_var, want[at].running_var)


def test_budget_ends_a_pass():
    model, same = net(), net()
    report = recalibrate(model, images(), max_batches=2)
    recalibrate(same, images()[:2])
    assert report.stopped == "budget"
    assert report.batches == 2
    assert torch.equal(model[8].running_var, same[8].running_var)


@pytest.mark.parametrize("order", ORDERS)
def test_narrow_interval_ends_a_pass_and_is_reported(order):
    layer = nn.Sequential(nn.BatchNorm1d(2))
    g = torch.Generator().manual_seed(0)
    data = [torch.randn(64, 2, generator=g) * 3 + 5 for _ in range(1000)]
    report = recalibrate(layer, data, order=order, tolerance=0.08)
    assert report.stopped == "interval"
    assert report.batches in (8, 16, 32, 64)
    assert max(report.mean_width, report.var_width) <= 0.08
    # n independent values: the mean's half width is 1.96/√n standard deviations.
    n = report.layers[0].count
    assert report.mean_width == pytest.approx(1.96 / n**0.5, rel=0.5)
    assert abs(layer[0].running_mean.mean().item() - 5) < 3 * 0.08
    wide = recalibrate(layer, data[:9], order=order, tolerance=1e-4)
    assert wide.stopped == "end of data"
    assert wide.mean_width > 1e-4


def test_unused_layer_does_not_keep_a_pass_from_ending():
    model = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(2)])
    data = list(torch.randn(100, 64, 2))
    report = recalibrate(model, data, tolerance=0.2, forward=lambda m, x: m[0](x))
    assert report.stopped == "interval"
    assert set(report.left) == {"1"}


def test_generator_is_read_once_and_refused_where_it_must_be_read_again():
    model, same = net(), net()
    recalibrate(model, iter(images()))
    recalibrate(same, images())
    assert torch.equal(model[8].running_mean, same[8].running_mean)
    with pytest.raises(ValueError, match=r"once per layer.*can be read once"):
        recalibrate(model, iter(images()), order="layerwise")


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_measured_is_an_error(order):
    model = net()
    before = state(model)
    with pytest.raises(ValueError, match="no layer saw two values"):
        recalibrate(model, [], order=order)
    with pytest.raises(ValueError, match="batches must reach a layer"):
        recalibrate(model, images(), order=order, forward=lambda model, batch: None)
    assert_state(model, before)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)])
def test_model_without_running_statistics_is_refused(model):
    with pytest.raises(ValueError, match="batch norm layers with running statistics"):
        recalibrate(model, [torch.randn(4, 2)])


def test_layers_that_are_left_are_reported_and_untouched():
    model = nn.ModuleDict(
        {
            "used": nn.BatchNorm1d(2),
            "unused": nn.BatchNorm1d(2),
            "off": bn.BatchNorm1d(2),
            "bare": nn.BatchNorm1d(2, track_running_stats=False),
        }
    )
    bn.set_updates(model["off"], False)
    before = state(model)

    def forward(model, x):
        return model["bare"](model["off"](model["used"](x)))

    for order in ORDERS:
        report = recalibrate(model, [torch.randn(8, 2) + 3], order=order, forward=forward)
        assert set(report.left) == {"unused", "off", "bare"}
        assert "switched off" in report.left["off"]
        assert_state(model, before, but=tuple(f"used.{name}" for name in BUFFERS))
        assert "left: unused: saw no two values" in str(report)


def test_frozen_layers_stay_frozen():
    model = net()
    bn.freeze(model[1], affine=True)
    mean = model[1].running_mean.clone()
    report = recalibrate(model, images())
    assert report.left == {"1": "its statistics are frozen"}
    assert torch.equal(model[1].running_mean, mean)
    assert [layer.path for layer in report.layers] == ["4", "8"]


@pytest.mark.parametrize("order", ORDERS)
def test_shared_layer_has_the_statistics_of_all_its_uses(order):
    norm = nn.BatchNorm1d(2)
    linear = nn.Linear(2, 2)
    model = nn.Sequential(norm, linear, norm).double()
    x = torch.randn(50, 2, dtype=torch.float64) + 4
    report = recalibrate(model, [x[:30], x[30:]], order=order)
    parts = []
    for part in (x[:30], x[30:]):
        inner = (part - part.mean(0)) / (part.var(0, correction=0) + norm.eps).sqrt()
        parts += [part, linear(inner * norm.weight + norm.bias)]
    torch.testing.assert_close(norm.running_var, torch.cat(parts).var(0).detach())
    assert len(report.layers) == 1
    assert report.layers[0].count == 100


class NotSequential(nn.Module):
    """The order of the modules is not the order of the forward."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

    def forward(self, x):
        return self.last(self.first(x) * 3 + 1)


def test_layerwise_follows_the_forward_and_not_the_definition():
    model = NotSequential().double()
    x = torch.randn(64, 2, dtype=torch.float64) * 5 + 9
    recalibrate(model, x.split(16), order="layerwise")
    model.eval()
    inner = model.first(x) * 3 + 1
    torch.testing.assert_close(model.last.running_var, inner.var(0).detach())


def test_channel_that_is_not_finite_keeps_its_statistics():
    layer = nn.BatchNorm1d(2)
    x = torch.randn(8, 2)
    x[0, 1] = float("nan")
    report = recalibrate(layer, [x])
    assert layer.running_mean[1] == 0
    assert layer.running_var[1] == 1
    torch.testing.assert_close(layer.running_mean[0], x[:, 0].mean())
    assert (report.layers[0].kept, report.layers[0].lost) == (1, 1)
    assert "1 channels kept" in str(report)


def test_non_finite_batches_are_counted_as_the_layer_counts_them():
    layer = bn.BatchNorm1d(1, momentum=None)
    good, bad = torch.randn(6, 1), torch.full((6, 1), float("inf"))
    recalibrate(layer, [good, bad, good + 1])
    assert layer.num_nonfinite.tolist() == [1]
    assert layer.num_batches_tracked.item() == 3
    torch.testing.assert_close(layer.running_mean, torch.cat([good, good + 1]).mean(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.DataParallel(m),
        lambda m: torch.optim.swa_utils.AveragedModel(m),
    ],
)
def test_wrapped_models(make):
    model, same = make(net()), net()
    recalibrate(model, images())
    recalibrate(same, images())
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert torch.equal(norms[-1].running_var, same[8].running_var)


@pytest.mark.parametrize("order", ORDERS)
def test_compiled_parts_do_not_hide_from_hooks(order):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
            self.part = torch.compile(self.inner, backend="eager")

        def forward(self, x):
            return self.part(x)

    model = Net().double()
    x = torch.randn(32, 3, dtype=torch.float64)
    model.eval()
    for training in (True, False):  # compiled as it will be called, before the hooks come
        model.inner[1].training = training
        with torch.no_grad():
            model(x[:8])
    recalibrate(model, x.split(8), order=order)
    want = model.inner[0](x).detach()
    torch.testing.assert_close(model.inner[1].running_var, want.var(0))


def test_half_precision_model_keeps_float32_digits():
    layer = bn.BatchNorm1d(2).bfloat16()
    x = (torch.randn(1000, 2) + 5).bfloat16()
    recalibrate(layer, x.split(10))
    assert layer.running_mean.dtype == torch.float32
    torch.testing.assert_close(layer.running_mean, x.float().mean(0))


def test_single_values_are_values_too():
    # Layer by layer nothing is normalised by a batch: batches of one image are as good as any.
    layer = nn.BatchNorm1d(3).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    recalibrate(layer, x.split(1), order="layerwise")
    torch.testing.assert_close(layer.running_var, x.var(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "both"}, "order='both'"),
        ({"max_batches": 0}, "max_batches=0"),
        ({"tolerance": 0.0}, r"tolerance=0\.0"),
        ({"confidence": 1.0}, r"confidence=1\.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        recalibrate(net(), images(), **options)


def test_training_after_it_continues_from_the_population():
    model = net()
    recalibrate(model, images())
    mean = model[4].running_mean.clone()
    model(images()[0])
    assert not torch.equal(model[4].running_mean, mean)
    assert model[4].num_batches_tracked.item() == 5


def test_progress_bar_is_shown_when_asked(capsys):
    pytest.importorskip("rich")
    recalibrate(net(), images(), progress=True)
    assert "recalibrate" in capsys.readouterr().err


def test_progress_bar_needs_rich_only_when_asked(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "rich.console", None)
    recalibrate(net(), images())
    with pytest.raises(RuntimeError, match="progress=True needs rich"):
        recalibrate(net(), images(), progress=True)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, bn.BatchNorm2d])
def test_recalibrated_network_has_unit_outputs_over_the_data(kind):
    norm = kind(3, affine=False, eps=1e-12).double()
    data = images()
    recalibrate(norm, data)
    norm.eval()
    whole = torch.cat([rows(norm(x)) for x in data])
    torch.testing.assert_close(whole.var(0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(whole.mean(0), torch.zeros(3, dtype=torch.float64))


def test_subclasses_that_add_to_torchs_layer_are_measured_at_their_input():
    class NormAct(nn.BatchNorm2d):  # as timm's
        def forward(self, x, extra=None):
            return super().forward(x).relu()

    norm = NormAct(3).double()
    recalibrate(norm, images())
    want = torch.cat([rows(x) for x in images()])
    torch.testing.assert_close(norm.running_var, want.var(0))
    twin = copy.deepcopy(norm)
    assert torch.equal(twin.running_var, norm.running_var)


def test_inputs_may_come_by_name():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(input=x)

    model, x = Net(), torch.randn(9, 2)
    recalibrate(model, [x])
    torch.testing.assert_close(model.norm.running_mean, x.mean(0))
