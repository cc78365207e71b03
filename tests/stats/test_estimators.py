"""Estimators in closed form: after 1, 10 and 100 batches, and merged in any grouping."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from batchnorm import BatchStats
from batchnorm.functional import batch_norm_stats
from batchnorm.stats import (
    Cumulative,
    Ema,
    MomentumSchedule,
    Population,
    ZeroDebiasedEma,
    cumulative_then,
    half_life,
)
from tests.tolerance import ulp

F64 = torch.float64
CLOSE = {"rtol": 64 * ulp(F64), "atol": 64 * ulp(F64)}


def constant(mean: float, var_unbiased: float) -> BatchStats:
    """A batch of two values with this mean and unbiased variance."""
    return BatchStats(
        torch.tensor(2), torch.tensor([mean], dtype=F64), torch.tensor([var_unbiased / 2])
    )


def batches(k: int, seed: int = 0, channels: int = 3) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2 + i % 5, channels, generator=g, dtype=F64) * (1 + i) + 3 * i for i in range(k)
    ]


def fed(estimator, data):
    for x in data:
        estimator.update(batch_norm_stats(x))
    return estimator


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("momentum", [0.1, 0.01, 1.0])
def test_ema_of_a_constant_keeps_what_is_left_of_its_start(k, momentum):
    ema = Ema(momentum)
    for _ in range(k):
        ema.update(constant(4.0, 9.0))
    left = (1 - momentum) ** k
    torch.testing.assert_close(ema.result().mean.item(), 4 * (1 - left), **CLOSE)
    torch.testing.assert_close(ema.result().var_unbiased.item(), 9 * (1 - left) + left, **CLOSE)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("momentum", [0.1, 0.01, 1.0])
def test_zero_debiased_ema_of_a_constant_is_the_constant(k, momentum):
    # Equinox's formula reports 103 for a true 4 after one step.
    ema = ZeroDebiasedEma(momentum)
    for _ in range(k):
        ema.update(constant(4.0, 9.0))
    torch.testing.assert_close(ema.result().mean.item(), 4.0, **CLOSE)
    torch.testing.assert_close(ema.result().var_unbiased.item(), 9.0, **CLOSE)


@pytest.mark.parametrize("k", [1, 2, 10, 100])
def test_zero_debiased_ema_is_the_weighted_mean_written_out(k):
    data = batches(k)
    weights = torch.tensor([0.1 * 0.9 ** (k - 1 - i) for i in range(k)], dtype=F64)
    result = fed(ZeroDebiasedEma(0.1), data).result()
    means = torch.stack([x.mean(0) for x in data])
    variances = torch.stack([x.var(0) for x in data])
    torch.testing.assert_close(result.mean, weights @ means / weights.sum())
    torch.testing.assert_close(result.var_unbiased, weights @ variances / weights.sum())


@pytest.mark.parametrize(("estimator", "momentum"), [(Ema(0.1), 0.1), (Cumulative(), None)])
def test_estimator_is_what_torchs_layer_remembers(estimator, momentum):
    layer = nn.BatchNorm1d(3, momentum=momentum).double()
    data = batches(13)
    for x in data:
        layer(x)
    result = fed(estimator, data).result()
    torch.testing.assert_close(result.mean, layer.running_mean)
    torch.testing.assert_close(result.var_unbiased, layer.running_var)


@pytest.mark.parametrize(
    "make", [lambda: Ema(0.1), lambda: ZeroDebiasedEma(0.1), Cumulative, Population]
)
@pytest.mark.parametrize("cut", [0, 1, 7, 12])
def test_merged_estimators_are_one_that_saw_everything(make, cut):
    data = batches(12)
    whole, first, second = fed(make(), data), fed(make(), data[:cut]), fed(make(), data[cut:])
    first.merge(second)
    torch.testing.assert_close(first.result().mean, whole.result().mean)
    torch.testing.assert_close(first.result().var_unbiased, whole.result().var_unbiased)


@pytest.mark.parametrize("make", [lambda: ZeroDebiasedEma(0.1), Cumulative, Population])
def test_estimator_without_a_batch_says_so(make):
    with pytest.raises(RuntimeError, match="it needs a batch"):
        make().result()


def test_schedule_that_begins_as_an_average_has_no_start_in_it():
    scheduled, average = Ema(cumulative_then(0.05)), Cumulative()
    for x in batches(20):
        stats = batch_norm_stats(x)
        scheduled.update(stats)
        average.update(stats)
        torch.testing.assert_close(vars(scheduled.result()), vars(average.result()))
    scheduled.update(constant(1.0, 1.0))
    want = 0.95 * average.result().mean + 0.05
    torch.testing.assert_close(scheduled.result().mean, want)


@pytest.mark.parametrize("batches_", [1, 6.58, 100])
def test_half_life_leaves_half(batches_):
    assert (1 - half_life(batches_)) ** batches_ == pytest.approx(0.5, rel=64 * ulp(F64))


def test_momentum_schedule_reaches_every_layer_and_continues_from_its_state():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2)), nn.Linear(2, 2))
    schedule = MomentumSchedule(model, lambda k: 1 / k)
    for k in (1, 2, 3):
        schedule.step()
        assert [model[0].momentum, model[1][0].momentum] == [1 / k] * 2
    again = MomentumSchedule(model, lambda k: 1 / k)
    again.load_state_dict(schedule.state_dict())
    again.step()
    assert model[0].momentum == 1 / 4
    with pytest.raises(ValueError, match="batch norm layers with running statistics"):
        MomentumSchedule(nn.Linear(2, 2), lambda k: 0.1)
    with pytest.raises(ValueError, match=r"from 0 to 1.*momentum=2"):
        MomentumSchedule(model, lambda k: 2.0).step()


@given(seed=st.integers(0, 99), offset=st.sampled_from([0.0, 1e4, -1e6]))
def test_population_is_the_statistics_of_everything_at_once(seed, offset):
    data = [x + offset for x in batches(9, seed)]
    result, everything = fed(Population(), data).result(), torch.cat(data)
    assert result.count.tolist() == [len(everything)] * 3
    bound = 64 * ulp(F64)
    torch.testing.assert_close(result.mean, everything.mean(0), rtol=bound, atol=bound)
    # The mean of a batch is rounded where it lies; the square of that is what can be lost.
    loose = bound * max(1.0, abs(offset))
    torch.testing.assert_close(result.var_unbiased, everything.var(0), rtol=bound, atol=loose)


def errors_written_out(data):
    """The cluster estimator, with all batches at hand."""
    n = torch.tensor([len(x) for x in data], dtype=F64).unsqueeze(1)
    whole = torch.cat(data)
    mean, var = whole.mean(0), whole.var(0, correction=0)
    of_mean = torch.stack([x.mean(0) for x in data]) - mean
    of_var = torch.stack([(x - mean).square().mean(0) for x in data]) - var
    b = len(data)
    share = b / (b - 1) * (n / n.sum()) ** 2
    return [(share * part.square()).sum(0).sqrt() for part in (of_mean, of_var)]


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[:4])
def test_interval_is_the_cluster_estimator_written_out(offset, order):
    data = [x + offset for x in batches(40)]
    parts = [fed(Population(), data[i::3]) for i in order]
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    interval = parts[0].interval(0.95)
    # Student's t with 39 degrees of freedom, two-sided 95 %.
    for got, want in zip(interval, errors_written_out(data), strict=True):
        torch.testing.assert_close(got, 2.022691 * want, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("degrees", "t"), [(4, 2.776445), (9, 2.262157), (29, 2.045230), (999, 1.962341)]
)
def test_quantile_is_students(degrees, t):
    from batchnorm.stats._population import _student

    got = _student(0.95, torch.tensor(float(degrees)))
    assert got.item() == pytest.approx(t, rel=0.01)


def test_interval_covers_the_truth_as_often_as_it_says():
    g = torch.Generator().manual_seed(0)
    channels, k = 2000, 16
    # Batches that come from different places: values in them are far from independent.
    centres = torch.randn(k, 1, channels, generator=g, dtype=F64)
    data = centres + torch.randn(k, 32, channels, generator=g, dtype=F64)
    population = fed(Population(), data)
    covered = (population.result().mean.abs() <= population.interval(0.9).mean).double().mean()
    # Binomial standard error of a share of 0.9 over the channels, five times.
    assert covered.item() == pytest.approx(0.9, abs=5 * (0.9 * 0.1 / channels) ** 0.5)


def test_one_batch_says_nothing_about_its_own_error():
    interval = fed(Population(), batches(1)).interval()
    assert interval.mean.isinf().all()
    assert interval.var.isinf().all()


def test_channels_that_are_not_finite_are_left_out_and_counted():
    good, bad = torch.randn(6, 2, dtype=F64), torch.randn(6, 2, dtype=F64)
    bad[0, 1] = float("inf")
    population = fed(Population(), [good, bad])
    result = population.result()
    assert population.lost.tolist() == [0, 1]
    assert population.batches.tolist() == [2, 1]
    assert result.count.tolist() == [12, 6]
    torch.testing.assert_close(result.mean[1], good[:, 1].mean())
    assert population.interval().mean.isinf().tolist() == [False, True]


def test_population_survives_packing_in_any_shape():
    like = torch.zeros(2, 3)
    population = Population()
    for x in batches(4, channels=6):
        s = batch_norm_stats(x)
        population.update(BatchStats(s.count, s.mean.reshape(2, 3), s.var.reshape(2, 3)))
    again = Population.unpack(population.pack(like), like)
    assert torch.equal(again.result().mean, population.result().mean)
    assert torch.equal(again.interval().var, population.interval().var)
    nothing = Population.unpack(Population().pack(like), like)
    population.merge(nothing)
    assert torch.equal(again.result().var, population.result().var)
