"""Where the rules on statistics draw the line, and how often chance crosses it."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from batchnorm.doctor import Context, diagnose
from batchnorm.doctor._batch_sizes import BatchSizes, batch_sizes
from batchnorm.doctor._statistics import effective_samples, remaining
from batchnorm.doctor._units import Units
from batchnorm.doctor.rules.bn104_running_far_from_batch import apart
from batchnorm.doctor.rules.bn108_batches_differ import _limit


def heard(layer, batches):
    return Context(nn.Sequential(layer), loader=batches).live.norms.heard["0"]


class TestEffectiveSamples:
    @pytest.mark.parametrize("size", [2, 5, 16])
    def test_independent_rows_count_as_themselves(self, size) -> None:
        layer = nn.BatchNorm1d(3)
        found = effective_samples(layer, heard(layer, [torch.randn(size, 3) for _ in range(4)]))
        assert found == pytest.approx(size)

    def test_equal_pixels_count_once(self) -> None:
        layer = nn.BatchNorm2d(3)
        batches = [torch.randn(8, 3, 1, 1).expand(8, 3, 5, 5) for _ in range(4)]
        assert effective_samples(layer, heard(layer, batches)) == pytest.approx(8)

    def test_independent_pixels_count_about_each(self) -> None:
        layer = nn.BatchNorm2d(16)
        batches = [torch.randn(8, 16, 5, 5) for _ in range(8)]
        found = effective_samples(layer, heard(layer, batches))
        assert 100 < found <= 200

    def test_are_not_known_of_constants_and_of_single_examples(self) -> None:
        layer = nn.BatchNorm2d(3)
        assert effective_samples(layer, heard(layer, [torch.ones(4, 3, 2, 2)])) is None
        assert effective_samples(layer, heard(layer, [torch.randn(1, 3, 2, 2)])) is None


class TestRemaining:
    def test_is_the_weight_of_the_start(self) -> None:
        layer = nn.BatchNorm1d(1, momentum=0.2)
        for _ in range(7):
            layer(torch.tensor([[-1.0], [-1.0]]))
        assert remaining(layer) == pytest.approx(0.8**7)
        assert float(layer.running_var) == pytest.approx(remaining(layer))

    def test_is_everything_before_and_nothing_in_an_average_of_all(self) -> None:
        assert remaining(nn.BatchNorm1d(1)) == 1
        layer = nn.BatchNorm1d(1, momentum=None)
        layer(torch.randn(4, 1))
        assert remaining(layer) == 0


@pytest.mark.parametrize(
    ("above", "below", "table"), [(3, 60, 6.17), (7, 120, 3.77), (10, 30, 4.24), (1, 120, 11.38)]
)
def test_fishers_limit_is_that_of_the_tables(above, below, table) -> None:
    assert _limit(above, below) == pytest.approx(table, rel=0.03)


class TestApart:
    def test_is_in_standard_deviations_of_x_hat(self) -> None:
        layer = nn.BatchNorm1d(4, eps=1e-12)
        layer.running_var.fill_(4.0)
        layer.running_mean.fill_(1.0)
        x = torch.randn(20_000, 4)
        found = apart(layer, heard(layer, [x]))
        # x̂ by memory is (x − 1)/2: half as wide and half a unit off.
        assert found.size == pytest.approx(math.sqrt(0.5**2 + 0.5**2), rel=0.05)
        assert found.is_far

    def test_says_nothing_of_fewer_than_thirty_examples(self) -> None:
        layer = nn.BatchNorm1d(4)
        layer.running_mean.fill_(9.0)
        assert apart(layer, heard(layer, [torch.randn(29, 4)])) is None
        assert apart(layer, heard(layer, [torch.randn(30, 4)])) is not None


class TestUnits:
    def test_say_nothing_before_thirty_examples(self) -> None:
        units = Units()
        units.see(torch.zeros(29, 3, dtype=torch.bool))
        assert units.dead == 0
        units.see(torch.zeros(1, 3, dtype=torch.bool))
        assert units.dead == 3

    def test_one_sign_of_life_is_enough(self) -> None:
        units = Units()
        units.see(torch.zeros(40, 3, 2, 2, dtype=torch.bool))
        alive = torch.zeros(40, 3, 2, 2, dtype=torch.bool)
        alive[7, 1, 0, 1] = True
        units.see(alive)
        assert units.dead == 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(10))


class TestBatchSizes:
    @pytest.mark.parametrize(
        ("loader", "sizes"),
        [
            (DataLoader(range(10), batch_size=5), BatchSizes(5, 5, 2)),
            (DataLoader(range(11), batch_size=5), BatchSizes(5, 1, 3)),
            (DataLoader(range(11), batch_size=5, drop_last=True), BatchSizes(5, 5, 2)),
            (DataLoader(range(3), batch_size=5), BatchSizes(3, 3, 1)),
            (DataLoader(range(3), batch_size=5, drop_last=True), None),
            (DataLoader(range(3), batch_size=None), None),
            (DataLoader(Stream(), batch_size=4), None),
            ([torch.ones(4, 2), (torch.ones(3, 2), 0)], BatchSizes(4, 3, 2)),
            ([], None),
            ([{"a": 1}], None),
        ],
    )
    def test_are_what_an_epoch_gives(self, loader, sizes) -> None:
        assert batch_sizes(loader) == sizes


def test_the_last_batch_is_loud_where_it_outweighs_the_others() -> None:
    """BN202's line against the variance of the running mean itself."""
    momentum, size = 0.1, 100
    for last, loud in ((22, True), (24, False)):
        own = momentum**2 / last
        others = sum((momentum * (1 - momentum) ** k) ** 2 for k in range(1, 400)) / size
        assert (own > others) == loud
        model = nn.Sequential(nn.BatchNorm1d(3, momentum=momentum))
        loader = DataLoader(TensorDataset(torch.randn(300 + last, 3)), batch_size=size)
        assert bool(list(diagnose(model, loader=loader, select=["BN202"], config={}))) == loud


@pytest.mark.parametrize("size", [16, 64])
def test_chance_hardly_ever_makes_a_finding(size) -> None:
    """Sound training on random batches, many times: no rule on statistics above info."""
    grave = []
    for seed in range(8):
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)),
        )
        for _ in range(60):
            model(torch.randn(size, 6))
        loader = [torch.randn(size, 6) for _ in range(6)]
        diagnosis = diagnose(model.eval(), loader=loader, select=["BN1", "BN2"], config={})
        assert not [skip for skip in diagnosis.skipped if skip.failed]
        grave += [f"{seed}: {finding}" for finding in diagnosis if finding.severity != "info"]
    assert grave == []


@pytest.mark.parametrize(
    ("dtype", "inside", "outside"),
    [(torch.bfloat16, 20, 60), (torch.float16, 150, 300), (torch.float32, 8e3, 2e4)],
)
def test_an_offset_costs_digits_from_where_the_page_says(dtype, inside, outside) -> None:
    torch.manual_seed(0)
    noise = torch.randn(400, 3)
    for ratio, far in ((inside, False), (outside, True)):
        x = (noise + ratio).to(dtype)
        model = nn.Sequential(nn.BatchNorm1d(3))
        assert bool(list(diagnose(model, x, select=["BN112"], config={}))) == far
