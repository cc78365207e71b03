"""What a batch leaves in memory, by one program: the counter is read before it is written."""

import triton
import triton.language as tl

__all__ = ["commit_kernel"]


@triton.jit
def _moved(old, new, share, kept, enters):
    return tl.where(enters, kept * old + share * new.to(old.dtype), old)


@triton.jit
def commit_kernel(
    running_mean_ptr, running_var_ptr, tracked_ptr, nonfinite_ptr, mean_ptr, var_ptr, count_ptr,
    channels, blocks, COUNTS: tl.constexpr, MOMENTUM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """``batchnorm.reference.batch_norm_commit`` in place; ``COUNTS``: one count per channel."""
    ACC: tl.constexpr = running_mean_ptr.dtype.element_ty
    largest = tl.load(count_ptr)
    if COUNTS:
        for block in range(blocks):
            at = block * BC + tl.arange(0, BC)
            count = tl.load(count_ptr + at, mask=at < channels, other=0)
            largest = tl.maximum(largest, tl.max(count, axis=0))
    tracked = tl.load(tracked_ptr) + (largest > 0).to(tl.int64)

    for block in range(blocks):
        at = block * BC + tl.arange(0, BC)
        exists = at < channels
        mean = tl.load(mean_ptr + at, mask=exists, other=0)
        var = tl.load(var_ptr + at, mask=exists, other=0)
        if COUNTS:
            count = tl.load(count_ptr + at, mask=exists, other=0)
        else:
            count = tl.full((BC,), 0, tl.int64) + largest
        # A NaN or an infinity minus itself is NaN, which equals nothing.
        finite = (mean - mean == 0) & (var - var == 0)
        refused = tl.load(nonfinite_ptr + at, mask=exists, other=0)
        refused += ((count > 0) & (finite == 0)).to(tl.int64)
        tl.store(nonfinite_ptr + at, refused, mask=exists)

        old_mean = tl.load(running_mean_ptr + at, mask=exists, other=0)
        old_var = tl.load(running_var_ptr + at, mask=exists, other=0)
        if MOMENTUM is None:
            share = 1 / tl.maximum(tracked - refused, 1).to(ACC)
            kept = 1 - share
        else:
            share = tl.full((BC,), MOMENTUM, ACC)
            kept = tl.full((BC,), 1 - MOMENTUM, ACC)
        size = count.to(var.dtype)
        unbiased = var * (size / tl.maximum(size - 1, 1))
        enters = finite & (count > 1)
        new_mean = _moved(old_mean, mean, share, kept, enters)
        new_var = _moved(old_var, unbiased, share, kept, enters)
        tl.store(running_mean_ptr + at, new_mean, mask=exists)
        tl.store(running_var_ptr + at, new_var, mask=exists)
    tl.store(tracked_ptr, tracked)
