"""Numbers of a row against the same worked out directly from the tensors."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.watch._schema import BINS, LAYER, PERCENTILES
from batchnorm.watch._values import take, thinned
from batchnorm.watch.quantities import (
    condition,
    independent,
    percentiles,
    shift,
    shift_noise,
    standard_error,
)
from tests.watch.nets import batches, net

DIGITS = 1e-6  # rows have seven


def close(value, rel=DIGITS):
    return pytest.approx(float(value), rel=10 * rel, abs=rel)


def recorded(model, *inputs, **options):
    """Rows by path of one step per input."""
    steps = []
    with bn.watch(model, every=1, on_alert=None, **options) as watching:
        for x in inputs:
            model(x)
            watching.step()
            rows = watching.recording.layers
            steps.append({r["path"]: r for r in rows if r["step"] == watching.steps - 1})
    return steps


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_distributions_are_those_of_the_values(layout):
    x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        x = x[:, :, 1:, ::2]
    layer = nn.BatchNorm2d(4)
    row = recorded(layer, x)[0][""]
    y = copy.deepcopy(layer)(x).detach()
    for prefix, values in (("in", x), ("out", y)):
        assert row[f"{prefix}_mean"] == close(values.mean().double())
        assert row[f"{prefix}_std"] == close(values.double().std(correction=0))
        for p in PERCENTILES:
            assert row[f"{prefix}_p{p:02d}"] == close(values.quantile(p / 100), 1e-5)
        assert len(row[f"{prefix}_hist"]) == BINS
        assert sum(row[f"{prefix}_hist"]) == values.numel()
    assert row["samples"] == x.numel() / 4
    assert row["channels"] == 4
    assert set(row) == set(LAYER)


def test_samples_are_spread_over_channels_and_positions():
    x = torch.arange(8 * 16 * 32 * 32).view(8, 16, 32, 32)
    for layout in (x, x.contiguous(memory_format=torch.channels_last)):
        at = thinned(layout.double(), 1024).long()
        assert 800 < len(at) <= 1024
        assert len(set((at // 1024 % 16).tolist())) == 16
        assert len(set((at % 32).tolist())) == 32
        assert len(set((at // 32 % 32).tolist())) == 32


def test_masked_positions_do_not_count():
    x = torch.randn(3, 2, 4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    x[1, :, 2:] = x[2, :, 1:] = 1e6
    real = torch.cat([x[0], x[1, :, :2], x[2, :, :1]], 1)
    layer = bn.BatchNorm1d(2)
    with bn.watch(layer, every=1, on_alert=None, conditions=True) as watching:
        layer(x, mask=mask)
        watching.step()
    row = watching.recording.layers[0]
    assert row["samples"] == 7
    assert row["in_mean"] == close(real.mean())
    assert row["in_p99"] < 1e3
    assert row["rank"] <= 2


def test_the_standard_error_takes_examples_as_the_draws():
    # Positions of one example are equal: a batch of 4 × 16 values is worth 4. Each channel is an
    # experiment; the squared error is right on average also for so few.
    x = torch.randn(4, 5000, 1, generator=torch.Generator().manual_seed(0))
    values = take(x.expand(4, 5000, 16).contiguous(), None, 64, errors=True)
    squares = standard_error(values.stats, values.spread).square()
    assert float(squares.mean()) == pytest.approx(float(x.mean(0).var()), rel=0.05)


def test_independent_values_are_counted_by_examples():
    x = torch.randn(50, 400, 1, generator=torch.Generator().manual_seed(0)).expand(50, 400, 16)
    values = take(x.contiguous(), None, 64, errors=True)
    assert independent(values.stats, values.spread) == pytest.approx(50, rel=0.05)


def test_shift_between_batches_of_one_distribution_is_its_noise():
    g = torch.Generator().manual_seed(0)
    shifts = []
    for _ in range(50):
        one, two = (take(torch.randn(40, 16, generator=g), None, 8, errors=True) for _ in range(2))
        shifts.append(shift(one.stats, two.stats))
    assert torch.tensor(shifts).mean() == pytest.approx(shift_noise(40, 40), rel=0.1)


def test_memory_is_compared_as_it_was_before_the_batch():
    layer = nn.BatchNorm1d(3, momentum=1.0)
    x = torch.randn(64, 3) * 2 + 5
    first, second = recorded(layer, x, x)
    one = (x.mean(0) / (1 + layer.eps) ** 0.5).square().mean().sqrt()
    assert first[""]["distance_mean"] == close(one, 1e-5)
    assert second[""]["distance_mean"] == close(0, 1e-5)
    assert second[""]["distance_std"] == close(0, 1e-4)
    error = x.var(0).div(64).sqrt()
    assert first[""]["distance_errors"] == close((x.mean(0) / error).square().mean().sqrt(), 1e-4)


def test_updates_and_staleness_are_counted():
    model = nn.Sequential(nn.BatchNorm1d(2), bn.BatchNorm1d(2), nn.Linear(2, 1))
    bn.set_updates(model[1:2], False)
    rows = recorded(model, *[torch.randn(8, 2)] * 3)
    assert [step["0"]["updates_per_call"] for step in rows] == [1, 1, 1]
    assert [step["0"]["stale"] for step in rows] == [0, 0, 0]
    assert [step["1"]["updates"] for step in rows] == [None, 0, 0]
    assert [step["1"]["stale"] for step in rows] == [0, 1, 2]


def test_gradients_and_updates_are_relative_to_the_weights():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    with bn.watch(model, optimizer=optimizer, every=1, on_alert=None) as watching:
        model(torch.randn(16, 3)).pow(3).mean().backward()
        before = [p.detach().clone() for p in model[0].parameters()]
        optimizer.step()
    row = next(row for row in watching.recording.layers if row["path"] == "0")
    norm = torch.cat([p.flatten() for p in before]).norm()
    grad = torch.cat([p.grad.flatten() for p in model[0].parameters()]).norm()
    assert row["kind"] == "weights"
    assert row["weight_norm"] == close(norm)
    assert row["grad_norm"] == close(grad)
    assert row["grad_ratio"] == close(grad / norm)
    assert row["update_ratio"] == close(0.5 * grad / norm, 1e-5)


def test_gradients_of_a_closure_are_those_of_its_backward():
    layer = nn.BatchNorm1d(4)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    def closure():
        optimizer.zero_grad()
        loss = layer(torch.randn(16, 4)).pow(3).mean()
        loss.backward()
        return loss

    with bn.watch(layer, optimizer=optimizer, every=1, on_alert=None) as watching:
        optimizer.step(closure)
    grad = torch.cat([p.grad for p in layer.parameters()]).norm()
    assert watching.recording.layers[0]["grad_norm"] == close(grad)


def test_gradients_are_without_the_scale_that_a_fused_optimizer_takes_off():
    layer = nn.BatchNorm1d(4)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with bn.watch(layer, optimizer=optimizer, every=1, on_alert=None) as watching:
        loss = layer(torch.randn(16, 4)).pow(3).mean()
        grad = torch.cat(torch.autograd.grad(loss, [*layer.parameters()], retain_graph=True))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
    assert watching.recording.layers[0]["grad_norm"] == close(grad.norm())


def test_steps_by_hand_see_the_same():
    model = net()
    other = copy.deepcopy(model)
    recordings = []
    for one, by_hand in ((model, False), (other, True)):
        optimizer = torch.optim.SGD(one.parameters(), 0.1)
        torch.manual_seed(0)
        given = None if by_hand else optimizer
        with bn.watch(one, optimizer=given, every=1, on_alert=None) as watching:
            one(batches(1)[0][0]).square().sum().backward()
            optimizer.step()
            if by_hand:
                watching.step()
        recordings.append([{**row, "seconds": 0} for row in watching.recording.layers])
    assert recordings[0] == recordings[1]


def test_micro_batches_are_one_step():
    layer = bn.BatchNorm1d(2)
    parts = torch.randn(3, 8, 2) + torch.tensor([0.0, 5.0, 9.0])[:, None, None]
    with bn.watch(layer, every=1, on_alert=None) as watching:
        for part in parts:
            layer(part)
        watching.step()
    row = watching.recording.layers[0]
    assert row["samples"] == 8
    assert row["in_mean"] == close(parts.mean())
    assert row["in_std"] == close(parts.std(correction=0))
    assert row["updates_per_call"] == 1


def test_calls_of_a_shared_module_are_places_of_their_own():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = bn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(x) - self.norm(x + 100)

    step = recorded(Siamese(), torch.randn(8, 2))[0]
    assert step["norm"]["in_mean"] < 10 < 90 < step["norm:2"]["in_mean"]
    assert step["norm"]["updates_per_call"] == 1


def test_dead_and_saturated_units_are_counted():
    model = nn.Sequential(nn.ReLU(), nn.Sigmoid())
    x = torch.randn(64, 4).abs()
    x[:, :3] = -x[:, :3]
    x[:, 3] = 9
    step = recorded(model, x)[0]
    assert step["0"]["dead"] == 1  # the last one is constant
    assert step["1"]["saturated"] == 0.25
    fused = recorded(bn.BatchNorm1d(4, activation="tanh"), torch.randn(64, 4))[0][""]
    assert 0 < fused["saturated"] < 0.2


def test_condition_is_that_of_the_covariance():
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 5, 1])
    values = torch.linalg.eigvalsh(rows.T.double().cov())
    found, rank = condition(rows)
    assert found == pytest.approx(float(values[-1] / values[0]), rel=1e-6)
    assert rank == pytest.approx(float(values.sum() ** 2 / values.square().sum()), rel=1e-6)
    assert condition(rows[:3])[0] == torch.inf
    step = recorded(nn.BatchNorm1d(3), rows, conditions=True)[0]
    assert step[""]["condition"] == close(found, 1e-4)


def test_values_that_are_not_finite_are_counted_and_left_out():
    x = torch.randn(32, 4)
    x[0, 1] = torch.nan
    x[1, 2] = torch.inf
    row = recorded(bn.BatchNorm1d(4), x)[0][""]
    assert row["in_nonfinite"] == 2
    assert row["in_mean"] == close(x[:, [0, 3]].mean())
    assert sum(row["in_hist"]) == x.numel() - 2
    assert percentiles(torch.full((1, 3), torch.nan), [50]).isnan().all()


def test_half_precision_and_odd_inputs_are_recorded():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = bn.SequenceBatchNorm(3, channel_axis=2)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.norm(x, lengths=lengths), self.norm(packed)

    model = Odd()
    x, lengths = torch.randn(2, 4, 3), torch.tensor([4, 2])
    with bn.watch(model, every=1, on_alert=None) as watching:
        model(x, lengths)
        watching.step()
    rows = {row["path"]: row for row in watching.recording.layers}
    assert rows["norm"]["samples"] == rows["norm:2"]["samples"] == 6
    assert rows["norm"]["channels"] == rows["norm:2"]["channels"] == 3
    half = recorded(nn.BatchNorm1d(4).bfloat16(), torch.randn(16, 4).bfloat16())[0][""]
    assert 0.5 < half["in_std"] < 2
