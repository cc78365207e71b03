"""``BatchStats``: merging is the statistics of the whole population, in any grouping."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batchnorm import BatchStats
from tests.strategies import splits
from tests.tolerance import ulp

F64 = torch.float64


def of(x: torch.Tensor) -> BatchStats:
    """Statistics of rows ``(M, C)``; all zero when there are none."""
    mean = x.mean(0) if len(x) else x.new_zeros(x.shape[1])
    var = x.var(0, correction=0) if len(x) else x.new_zeros(x.shape[1])
    return BatchStats(count=torch.tensor(len(x)), mean=mean, var=var)


def assert_equal(a: BatchStats, b: BatchStats, scale: float = 1.0) -> None:
    bound = 64 * ulp(a.mean.dtype)
    assert torch.equal(a.count.expand(3), b.count.expand(3))
    torch.testing.assert_close(a.mean, b.mean, rtol=bound, atol=bound * scale)
    torch.testing.assert_close(a.var, b.var, rtol=bound, atol=bound * scale)


@given(data=st.data(), offset=st.sampled_from([0.0, 1e4]))
def test_merge_of_parts_is_the_whole_population(data, offset):
    total = data.draw(st.integers(1, 60))
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    x = torch.randn(total, 3, generator=g, dtype=F64) * torch.tensor([1.0, 5.0, 0.1]) + offset
    parts = [of(p) for p in x.split(data.draw(splits(total)))]
    assert_equal(BatchStats.merge_all(parts), of(x), scale=max(offset, 1.0))


@given(sizes=st.tuples(*[st.integers(0, 9)] * 3), seed=st.integers(0, 99))
def test_merge_is_associative_and_commutative(sizes, seed):
    g = torch.Generator().manual_seed(seed)
    a, b, c = (of(torch.randn(n, 3, generator=g, dtype=F64) * 3 + n) for n in sizes)
    assert_equal(a.merge(b).merge(c), a.merge(b.merge(c)), 10)
    assert_equal(a.merge(b), b.merge(a), 10)


def test_batch_of_nothing_is_neutral():
    some = of(torch.randn(5, 3, dtype=F64))
    none = BatchStats(
        count=torch.tensor(0), mean=torch.zeros(3).double(), var=torch.zeros(3).double()
    )
    for merged in (some.merge(none), none.merge(some)):
        assert torch.equal(merged.mean, some.mean)
        assert torch.equal(merged.var, some.var)
        assert torch.equal(merged.count.expand(3), torch.full((3,), 5))
    assert none.merge(none).mean.isfinite().all()
    assert none.merge(none).count.sum() == 0


def test_channel_with_count_zero_is_neutral_whatever_it_holds():
    nan = float("nan")
    a = BatchStats(
        count=torch.tensor([4, 0, 4]),
        mean=torch.tensor([1.0, nan, 3.0]),
        var=torch.tensor([1.0, nan, 3.0]),
    )
    b = BatchStats(count=torch.tensor(2), mean=torch.ones(3), var=torch.ones(3))
    for merged in (a.merge(b), b.merge(a)):
        assert merged.count.tolist() == [6, 2, 6]
        assert merged.mean.isfinite().all()
        assert merged.mean[1] == 1
        assert merged.var[1] == 1


def test_finite_drops_the_channels_that_are_not():
    inf, nan = float("inf"), float("nan")
    stats = BatchStats(
        count=torch.tensor(4),
        mean=torch.tensor([1.0, nan, inf, 2.0]),
        var=torch.tensor([1.0, 1.0, 1.0, inf]),
    )
    clean = stats.finite()
    assert clean.count.tolist() == [4, 0, 0, 0]
    other = BatchStats(count=torch.tensor(1), mean=torch.zeros(4), var=torch.zeros(4))
    assert clean.merge(other).mean.isfinite().all()
    assert clean.merge(other).var.isfinite().all()


def test_unbiased_variance_and_invstd_in_closed_form():
    stats = BatchStats(count=torch.tensor(5), mean=torch.zeros(2), var=torch.tensor([4.0, 0.25]))
    assert stats.var_unbiased.tolist() == [5.0, 0.3125]
    torch.testing.assert_close(stats.invstd(0.0), torch.tensor([0.5, 2.0]))
    assert stats.invstd(12.0)[0] == 0.25


def test_two_values_in_two_batches_have_the_variance_of_both():
    # torch.optim.swa_utils.update_bn averages batch variances: 0.996 where the truth is 26.2.
    g = torch.Generator().manual_seed(0)
    low = torch.randn(1000, 1, generator=g, dtype=F64)
    high = torch.randn(1000, 1, generator=g, dtype=F64) + 10
    merged = of(low).merge(of(high))
    want = torch.cat([low, high]).var(correction=0)
    torch.testing.assert_close(merged.var[0], want, rtol=1e-13, atol=0)
    assert merged.var.item() > 25


def test_float32_merge_of_many_batches_keeps_its_digits():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, 3, generator=g, dtype=F64) + 1e3
    parts = [of(p) for p in x]
    narrow = [BatchStats(count=p.count, mean=p.mean.float(), var=p.var.float()) for p in parts]
    merged, want = BatchStats.merge_all(narrow), of(x.flatten(0, 1))
    assert merged.mean.dtype == torch.float32
    bound = 16 * ulp(torch.float32)
    torch.testing.assert_close(merged.mean.double(), want.mean, rtol=bound, atol=0)
    # Each batch's mean was rounded at 1e3: half an ulp there, times the spread of means.
    torch.testing.assert_close(merged.var.double(), want.var, rtol=bound * 1e3**0.5, atol=0)


def test_stats_are_a_pytree_and_frozen():
    stats = of(torch.randn(5, 3))
    leaves, spec = torch.utils._pytree.tree_flatten(stats)
    assert len(leaves) == 3
    again = torch.utils._pytree.tree_unflatten(leaves, spec)
    assert isinstance(again, BatchStats)
    assert torch.equal(again.mean, stats.mean)
    with pytest.raises(AttributeError):
        stats.mean = torch.zeros(3)


def test_stats_survive_pickle():
    stats = of(torch.randn(5, 3))
    again = pickle.loads(pickle.dumps(stats))
    assert torch.equal(again.var, stats.var)


def test_detach_cuts_the_graph():
    mean = torch.ones(3, requires_grad=True)
    stats = BatchStats(count=torch.tensor(2), mean=mean * 2, var=mean * 3).detach()
    assert not stats.mean.requires_grad
    assert not stats.var.requires_grad
