"""Forward kernels: measure, merge, apply, and all three for a channel that fits one program."""

import triton
import triton.language as tl

from ._activations import activate
from ._tiles import (
    channel_at,
    lanes_add,
    lanes_merge,
    load_channel,
    real_at,
    sum_tile,
    tile_at,
    tile_statistics,
)

__all__ = ["apply_kernel", "merge_kernel", "stats_kernel", "train_kernel"]


@triton.jit
def _measure(
    x_ptr, mask_ptr, start, per, block, n, channels, units, tiles_s, ACC: tl.constexpr,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Count, origin, mean less origin, and squared deviations of ``per`` tiles.

    The origin is the first tile's mean, rounded: differences from it are what is summed, so a
    large mean costs no digits, here or where parts are merged.
    """
    offsets, positions, within, inside = tile_at(
        start, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
    )
    real = real_at(mask_ptr, positions, within, inside)
    first = tl.load(x_ptr + offsets, mask=real, other=0).to(ACC)
    origin = sum_tile(first) / tl.maximum(sum_tile(real.to(tl.int32)), 1).to(ACC)

    count = tl.zeros((BN, BC, BS), tl.int32)
    mean = tl.zeros((BN, BC, BS), ACC)
    m2 = tl.zeros((BN, BC, BS), ACC)
    for i in range(per):
        offsets, positions, within, inside = tile_at(
            start + i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
        )
        real = real_at(mask_ptr, positions, within, inside)
        x = tl.load(x_ptr + offsets, mask=real, other=0).to(ACC)
        count, mean, m2 = lanes_add(count, mean, m2, x - origin, real)
    total, centre, squares = lanes_merge(count, mean, m2)

    return total, origin, centre, squares


@triton.jit
def _conclude(
    total, mean, squares, block, channels, mean_ptr, var_ptr, invstd_ptr, count_ptr,
    EPS: tl.constexpr, INDEX: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Write a channel's statistics; returns ``invstd``."""
    at_c, exists = channel_at(block, channels, INDEX, BC)
    size = tl.maximum(total, 1).to(mean.dtype)
    mean = tl.where(total > 0, mean, 0.0).to(mean.dtype)
    var = squares / size
    invstd = 1 / tl.sqrt(var + EPS)
    tl.store(mean_ptr + at_c, mean, mask=exists)
    tl.store(var_ptr + at_c, var, mask=exists)
    if invstd_ptr is not None:
        tl.store(invstd_ptr + at_c, invstd, mask=exists)
    # Every channel has the same count: the first writes it.
    tl.store(count_ptr + at_c, total.to(tl.int64), mask=at_c == 0)

    return mean, invstd


@triton.jit
def stats_kernel(
    x_ptr, mask_ptr, counts_ptr, origins_ptr, means_ptr, squares_ptr,
    n, channels, units, tiles_s, per, blocks,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Partial statistics ``(splits, channels)``, one program per split and block of channels."""
    ACC: tl.constexpr = means_ptr.dtype.element_ty
    pid = tl.program_id(0).to(INDEX)
    block, split = pid % blocks, pid // blocks
    total, origin, mean, squares = _measure(
        x_ptr, mask_ptr, split * per, per, block, n, channels, units, tiles_s,
        ACC, INDEX, UNIT, BN, BC, BS,
    )  # fmt: skip
    at_c, exists = channel_at(block, channels, INDEX, BC)
    at = split * channels + at_c
    tl.store(counts_ptr + at, total, mask=exists)
    tl.store(origins_ptr + at, origin, mask=exists)
    tl.store(means_ptr + at, mean, mask=exists)
    tl.store(squares_ptr + at, squares, mask=exists)


@triton.jit
def merge_kernel(
    counts_ptr, origins_ptr, means_ptr, squares_ptr, mean_ptr, var_ptr, invstd_ptr, count_ptr,
    splits, channels,
    EPS: tl.constexpr, INDEX: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Statistics of all splits together, in one order whatever ran first."""
    ACC: tl.constexpr = means_ptr.dtype.element_ty
    block = tl.program_id(0).to(INDEX)
    at_c, exists = channel_at(block, channels, INDEX, BC)
    split = tl.arange(0, BP)[:, None, None].to(INDEX)
    here = exists & (split < splits)
    at = split * channels + at_c
    count = tl.load(counts_ptr + at, mask=here, other=0)
    centre = tl.load(means_ptr + at, mask=here, other=0)
    squares = tl.load(squares_ptr + at, mask=here, other=0)
    first = tl.load(origins_ptr + at_c, mask=exists, other=0)
    away = tl.load(origins_ptr + at, mask=here, other=0) - first
    mean = tl.where(count > 0, away + centre, 0.0).to(ACC)
    total, centre, squares = lanes_merge(count.to(tl.int64), mean, squares)
    _conclude(
        total, first + centre, squares, block, channels,
        mean_ptr, var_ptr, invstd_ptr, count_ptr, EPS, INDEX, BC,
    )  # fmt: skip


@triton.jit
def _apply(
    x, real, inside, offsets, mean, scale, weight, bias, r_ptr, y_ptr,
    CODE: tl.constexpr, SLOPE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Normalise a loaded tile and store it, 0 where padded."""
    pre = (x - mean) * scale * weight + bias
    if r_ptr is not None:
        pre += tl.load(r_ptr + offsets, mask=real, other=0).to(ACC)
    y = tl.where(real, activate(pre, CODE, SLOPE), 0.0)
    tl.store(y_ptr + offsets, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def apply_kernel(
    x_ptr, w_ptr, b_ptr, r_ptr, mask_ptr, y_ptr, mean_ptr, scale_ptr,
    n, channels, units, tiles_s, per, blocks,
    FROM_VAR: tl.constexpr, EPS: tl.constexpr, CODE: tl.constexpr, SLOPE: tl.constexpr,
    ACC: tl.constexpr,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Normalise by given statistics; ``scale_ptr`` holds variances or invstds.

    Programs begin at the tensor's end: the caches still hold what the statistics read last.
    """
    pid = (tl.num_programs(0) - 1 - tl.program_id(0)).to(INDEX)
    block, split = pid % blocks, pid // blocks
    at_c, exists = channel_at(block, channels, INDEX, BC)
    mean = load_channel(mean_ptr, at_c, exists, 0.0, ACC)
    scale = load_channel(scale_ptr, at_c, exists, 1.0, ACC)
    if FROM_VAR:
        scale = 1 / tl.sqrt(scale + EPS)
    weight = load_channel(w_ptr, at_c, exists, 1.0, ACC)
    bias = load_channel(b_ptr, at_c, exists, 0.0, ACC)
    for i in range(per):
        offsets, positions, within, inside = tile_at(
            split * per + per - 1 - i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
        )
        real = real_at(mask_ptr, positions, within, inside)
        x = tl.load(x_ptr + offsets, mask=real, other=0).to(ACC)
        _apply(x, real, inside, offsets, mean, scale, weight, bias, r_ptr, y_ptr, CODE, SLOPE, ACC)


@triton.jit
def train_kernel(
    x_ptr, w_ptr, b_ptr, r_ptr, mask_ptr, y_ptr, mean_ptr, var_ptr, invstd_ptr, count_ptr,
    n, channels, units, tiles_s, per,
    EPS: tl.constexpr, CODE: tl.constexpr, SLOPE: tl.constexpr, ON_CHIP: tl.constexpr,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Measure and apply whole channels in one program.

    ``ON_CHIP``: a channel is one tile and stays in registers, x is read once. Otherwise it is
    read again, backwards, while the caches hold it.
    """
    ACC: tl.constexpr = mean_ptr.dtype.element_ty
    block = tl.program_id(0).to(INDEX)
    at_c, exists = channel_at(block, channels, INDEX, BC)
    weight = load_channel(w_ptr, at_c, exists, 1.0, ACC)
    bias = load_channel(b_ptr, at_c, exists, 0.0, ACC)
    if ON_CHIP:
        offsets, positions, within, inside = tile_at(
            0, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
        )
        real = real_at(mask_ptr, positions, within, inside)
        x = tl.load(x_ptr + offsets, mask=real, other=0).to(ACC)
        total, mean, squares = tile_statistics(x, real)
        mean, invstd = _conclude(
            total, mean, squares, block, channels,
            mean_ptr, var_ptr, invstd_ptr, count_ptr, EPS, INDEX, BC,
        )  # fmt: skip
        _apply(x, real, inside, offsets, mean, invstd, weight, bias, r_ptr, y_ptr, CODE, SLOPE, ACC)
    else:
        total, origin, mean, squares = _measure(
            x_ptr, mask_ptr, block * 0, per, block, n, channels, units, tiles_s,
            ACC, INDEX, UNIT, BN, BC, BS,
        )  # fmt: skip
        mean, invstd = _conclude(
            total, origin + mean, squares, block, channels,
            mean_ptr, var_ptr, invstd_ptr, count_ptr, EPS, INDEX, BC,
        )  # fmt: skip
        for i in range(per):
            offsets, positions, within, inside = tile_at(
                block * 0 + per - 1 - i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
            )
            real = real_at(mask_ptr, positions, within, inside)
            x = tl.load(x_ptr + offsets, mask=real, other=0).to(ACC)
            _apply(
                x, real, inside, offsets, mean, invstd, weight, bias, r_ptr, y_ptr,
                CODE, SLOPE, ACC,
            )  # fmt: skip
