"""``batch_norm_commit_``: the running statistics in closed form."""

import pytest
import torch

NAN, INF = float("nan"), float("inf")


def buffers(channels=3, dtype=torch.float32):
    return [
        torch.zeros(channels, dtype=dtype),
        torch.ones(channels, dtype=dtype),
        torch.tensor(0),
        torch.zeros(channels, dtype=torch.int64),
    ]


def commit(k, state, mean, var, count, momentum):
    k.batch_norm_commit_(*state, mean, var, torch.as_tensor(count), momentum)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("updates", [1, 10, 100])
@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, 0.0])
def test_commit_is_the_exponential_average_in_closed_form(kernels, updates, momentum, dtype):
    # equinox's zero-debiased formula, replayed, reports 103 for a true 4 after one step.
    state = buffers(dtype=dtype)
    mean = torch.tensor([1.0, -2.0, 100.0], dtype=dtype)
    var = torch.tensor([3.0, 0.0, 1e4], dtype=dtype)
    for _ in range(updates):
        commit(kernels, state, mean, var, 8, momentum)
    kept = (1 - momentum) ** updates
    want_mean = (1 - kept) * mean.double()
    want_var = kept + (1 - kept) * var.double() * 8 / 7
    bound = 4 * updates * torch.finfo(dtype).eps
    torch.testing.assert_close(state[0].double(), want_mean, rtol=bound, atol=bound)
    torch.testing.assert_close(state[1].double(), want_var, rtol=bound, atol=bound)
    assert state[2].item() == updates
    assert torch.equal(state[3], torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("updates", [1, 10, 100])
def test_commit_without_momentum_is_the_plain_average(kernels, updates):
    state = buffers(dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    means = torch.randn(updates, 3, generator=g, dtype=torch.float64)
    variances = torch.rand(updates, 3, generator=g, dtype=torch.float64)
    for mean, var in zip(means, variances, strict=True):
        commit(kernels, state, mean, var, 5, None)
    bound = 4 * updates * torch.finfo(torch.float64).eps
    torch.testing.assert_close(state[0], means.mean(0), rtol=bound, atol=bound)
    torch.testing.assert_close(state[1], variances.mean(0) * 5 / 4, rtol=bound, atol=bound)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["mean", "var"])
def test_commit_skips_and_counts_a_non_finite_channel(kernels, where, bad, momentum):
    state = buffers()
    stats = {"mean": torch.tensor([1.0, 2.0, 3.0]), "var": torch.tensor([4.0, 5.0, 6.0])}
    stats[where][1] = bad
    commit(kernels, state, **stats, count=4, momentum=momentum)
    m = 0.1 if momentum is not None else 1.0
    want = torch.tensor([m * 1.0, 0.0, m * 3.0])
    torch.testing.assert_close(state[0], want, rtol=1e-6, atol=0)
    assert state[1][1] == 1.0
    assert state[2].item() == 1
    assert state[3].tolist() == [0, 1, 0]


def test_cumulative_average_leaves_out_the_skipped_batches_of_a_channel(kernels):
    state = buffers(1, torch.float64)
    for value in (1.0, NAN, 3.0, INF, 8.0):
        commit(kernels, state, *torch.tensor([[value], [value]], dtype=torch.float64), 2, None)
    torch.testing.assert_close(state[0], torch.tensor([4.0], dtype=torch.float64))
    torch.testing.assert_close(state[1], torch.tensor([8.0], dtype=torch.float64))
    assert state[2].item() == 5
    assert state[3].tolist() == [2]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_commit_of_count_zero_changes_nothing(kernels, momentum):
    state = buffers()
    commit(kernels, state, torch.full((3,), 7.0), torch.full((3,), 7.0), 0, momentum)
    assert state[0].tolist() == [0, 0, 0]
    assert state[1].tolist() == [1, 1, 1]
    assert state[2].item() == 0


def test_commit_takes_a_count_per_channel(kernels):
    state = buffers(dtype=torch.float64)
    mean = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    var = torch.tensor([4.0, 5.0, 6.0], dtype=torch.float64)
    commit(kernels, state, mean, var, torch.tensor([2, 0, 4]), 0.5)
    assert state[0].tolist() == [0.5, 0.0, 1.5]
    assert state[1].tolist() == [0.5 + 4.0, 1.0, 0.5 + 4.0]
    assert state[2].item() == 1


def test_commit_of_one_value_per_channel_leaves_the_statistics(kernels):
    state = buffers()
    commit(kernels, state, torch.full((3,), 7.0), torch.zeros(3), 1, 0.1)
    assert state[0].tolist() == [0, 0, 0]
    assert state[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("channels", [1, 7, 64, 130])
def test_commit_reaches_every_channel(kernels, channels):
    state = buffers(channels)
    mean = torch.arange(channels).float() + 1
    commit(kernels, state, mean, mean, 2, 1.0)
    assert torch.equal(state[0], mean)
    assert torch.equal(state[1], 2 * mean)


@pytest.mark.parametrize("acc", [torch.float32, torch.float64], ids=str)
def test_commit_takes_statistics_wider_or_narrower_than_the_buffers(kernels, acc):
    other = torch.float64 if acc == torch.float32 else torch.float32
    state = buffers(dtype=other)
    mean, var = torch.full((3,), 2.0, dtype=acc), torch.full((3,), 3.0, dtype=acc)
    commit(kernels, state, mean, var, 4, 1.0)
    assert state[0].tolist() == [2, 2, 2]
    assert state[1].tolist() == [4, 4, 4]
    assert state[0].dtype == other
