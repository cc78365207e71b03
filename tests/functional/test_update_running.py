"""The pure forms: statistics of a batch, and one step of the running statistics."""

import pytest
import torch

import batchnorm as bn
from batchnorm import BatchStats


def test_batch_norm_stats_is_the_proposal_of_batch_norm():
    x = torch.randn(6, 3, 5)
    stats = bn.functional.batch_norm_stats(x)
    _, proposed = bn.functional.batch_norm(x)
    assert isinstance(stats, BatchStats)
    assert torch.equal(stats.mean, proposed.mean)
    assert torch.equal(stats.var, proposed.var)
    assert stats.count.item() == proposed.count.item() == 30


def test_example_of_the_docstring():
    assert bn.functional.batch_norm_stats(torch.tensor([[1.0], [3.0]])).var.tolist() == [1.0]


def test_given_statistics_are_used_and_come_back():
    stats = BatchStats(count=torch.tensor(5), mean=torch.full((3,), 2.0), var=torch.full((3,), 4.0))
    y, back = bn.functional.batch_norm(torch.full((2, 3), 6.0), stats=stats, eps=0.0)
    assert y.tolist() == [[2.0] * 3] * 2
    assert torch.equal(back.mean, stats.mean)
    assert torch.equal(back.var, stats.var)


def test_update_running_is_one_exponential_step_and_pure():
    mean, var = torch.zeros(2), torch.ones(2)
    batch = BatchStats(
        count=torch.tensor(4), mean=torch.tensor([1.0, -1.0]), var=torch.tensor([3.0, 6.0])
    )
    new_mean, new_var = bn.functional.update_running(mean, var, batch, 0.5)
    assert new_mean.tolist() == [0.5, -0.5]
    assert new_var.tolist() == [0.5 + 2.0, 0.5 + 4.0]
    assert mean.tolist() == [0, 0]
    assert var.tolist() == [1, 1]


def test_update_running_leaves_non_finite_channels():
    batch = BatchStats(
        count=torch.tensor(4),
        mean=torch.tensor([1.0, float("nan")]),
        var=torch.tensor([3.0, float("inf")]),
    )
    mean, var = bn.functional.update_running(torch.zeros(2), torch.ones(2), batch, 1.0)
    assert mean.tolist() == [1, 0]
    assert var.tolist() == [4, 1]


def test_update_running_works_under_vmap():
    x = torch.randn(5, 4, 3)

    def step(x):
        stats = bn.functional.batch_norm_stats(x)
        return bn.functional.update_running(torch.zeros(3), torch.ones(3), stats, 0.1)

    mean, var = torch.func.vmap(step)(x)
    torch.testing.assert_close(mean, 0.1 * x.mean(1))
    torch.testing.assert_close(var, 0.9 + 0.1 * x.var(1))


@pytest.mark.parametrize("updates", [1, 10, 100])
def test_update_running_in_closed_form(updates):
    mean, var = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    batch = BatchStats(count=torch.tensor(3), mean=mean + 7, var=var * 4)
    for _ in range(updates):
        mean, var = bn.functional.update_running(mean, var, batch, 0.1)
    kept = 0.9**updates
    assert mean.item() == pytest.approx(7 * (1 - kept), rel=1e-12)
    assert var.item() == pytest.approx(kept + 6 * (1 - kept), rel=1e-12)
