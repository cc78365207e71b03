"""Backward kernels: reduce, sum, apply, and all three for a channel that fits one program."""

import triton
import triton.language as tl

from ._activations import activation_grad
from ._tiles import channel_at, load_channel, real_at, sum_tile, tile_at

__all__ = ["backward_apply_kernel", "reduce_kernel", "sum_kernel", "train_backward_kernel"]


@triton.jit
def _gradient(
    dy_ptr, x_ptr, r_ptr, y_ptr, offsets, real, mean, invstd, weight, bias,
    CODE: tl.constexpr, SLOPE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``g = dy * act'(pre)`` and ``x_hat`` of a tile, 0 where padded."""
    g = tl.load(dy_ptr + offsets, mask=real, other=0).to(ACC)
    x = tl.load(x_ptr + offsets, mask=real, other=0).to(ACC)
    x_hat = tl.where(real, (x - mean) * invstd, 0.0).to(ACC)
    if CODE != 0:
        if y_ptr is not None:
            pre = tl.load(y_ptr + offsets, mask=real, other=0).to(ACC)
        else:
            # The forward's own expression, for the same side of every kink.
            pre = (x - mean) * invstd * weight + bias
            if r_ptr is not None:
                pre += tl.load(r_ptr + offsets, mask=real, other=0).to(ACC)
        g = tl.where(real, g * activation_grad(pre, CODE, SLOPE), 0.0).to(ACC)

    return g, x_hat


@triton.jit
def _store(pointer, offsets, values, real, inside):
    if pointer is not None:
        values = tl.where(real, values, 0.0)
        tl.store(pointer + offsets, values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def reduce_kernel(
    dy_ptr, x_ptr, w_ptr, b_ptr, mean_ptr, invstd_ptr, r_ptr, y_ptr, mask_ptr,
    dx_ptr, dr_ptr, sums_ptr, sums_x_ptr,
    n, channels, units, tiles_s, per, blocks,
    CODE: tl.constexpr, SLOPE: tl.constexpr,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Partial sums of ``g`` and ``g * x_hat``, ``(splits, channels)``.

    With ``dx_ptr`` the statistics are constants: the input's gradient is written on the way.
    """
    ACC: tl.constexpr = sums_ptr.dtype.element_ty
    pid = tl.program_id(0).to(INDEX)
    block, split = pid % blocks, pid // blocks
    at_c, exists = channel_at(block, channels, INDEX, BC)
    mean = load_channel(mean_ptr, at_c, exists, 0.0, ACC)
    invstd = load_channel(invstd_ptr, at_c, exists, 0.0, ACC)
    weight = load_channel(w_ptr, at_c, exists, 1.0, ACC)
    bias = load_channel(b_ptr, at_c, exists, 0.0, ACC)
    total = tl.zeros((BN, BC, BS), ACC)
    total_x = tl.zeros((BN, BC, BS), ACC)
    for i in range(per):
        offsets, positions, within, inside = tile_at(
            split * per + i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
        )
        real = real_at(mask_ptr, positions, within, inside)
        g, x_hat = _gradient(
            dy_ptr, x_ptr, r_ptr, y_ptr, offsets, real, mean, invstd, weight, bias,
            CODE, SLOPE, ACC,
        )  # fmt: skip
        total += g
        total_x += g * x_hat
        _store(dx_ptr, offsets, g * invstd * weight, real, inside)
        _store(dr_ptr, offsets, g, real, inside)
    at = split * channels + at_c
    tl.store(sums_ptr + at, sum_tile(total), mask=exists)
    tl.store(sums_x_ptr + at, sum_tile(total_x), mask=exists)


@triton.jit
def sum_kernel(
    sums_ptr, sums_x_ptr, sum_dy_ptr, sum_dy_xhat_ptr, splits, channels,
    INDEX: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of all splits together, in one order whatever ran first."""
    block = tl.program_id(0).to(INDEX)
    at_c, exists = channel_at(block, channels, INDEX, BC)
    split = tl.arange(0, BP)[:, None, None].to(INDEX)
    at = split * channels + at_c
    here = exists & (split < splits)
    total = sum_tile(tl.load(sums_ptr + at, mask=here, other=0))
    total_x = sum_tile(tl.load(sums_x_ptr + at, mask=here, other=0))
    tl.store(sum_dy_ptr + at_c, total, mask=exists)
    tl.store(sum_dy_xhat_ptr + at_c, total_x, mask=exists)


@triton.jit
def _input_gradient(g, x_hat, invstd, weight, total, total_x, size):
    return (g - total / size - x_hat * (total_x / size)) * (invstd * weight)


@triton.jit
def backward_apply_kernel(
    dy_ptr, x_ptr, w_ptr, b_ptr, mean_ptr, invstd_ptr, sum_dy_ptr, sum_dy_xhat_ptr, count_ptr,
    r_ptr, y_ptr, mask_ptr, dx_ptr, dr_ptr,
    n, channels, units, tiles_s, per, blocks, positions_count,
    COUNTS: tl.constexpr, CODE: tl.constexpr, SLOPE: tl.constexpr, ACC: tl.constexpr,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """The input's gradient from agreed sums; programs begin at the tensor's end.

    The count is ``positions_count`` without a tensor, and one for all channels unless ``COUNTS``.
    """
    pid = (tl.num_programs(0) - 1 - tl.program_id(0)).to(INDEX)
    block, split = pid % blocks, pid // blocks
    at_c, exists = channel_at(block, channels, INDEX, BC)
    mean = load_channel(mean_ptr, at_c, exists, 0.0, ACC)
    invstd = load_channel(invstd_ptr, at_c, exists, 0.0, ACC)
    weight = load_channel(w_ptr, at_c, exists, 1.0, ACC)
    bias = load_channel(b_ptr, at_c, exists, 0.0, ACC)
    total = load_channel(sum_dy_ptr, at_c, exists, 0.0, ACC)
    total_x = load_channel(sum_dy_xhat_ptr, at_c, exists, 0.0, ACC)
    if count_ptr is None:
        size = (mean * 0 + positions_count).to(ACC)
    elif COUNTS:
        size = tl.maximum(tl.load(count_ptr + at_c, mask=exists, other=1), 1).to(ACC)
    else:
        size = tl.maximum(tl.load(count_ptr), 1).to(ACC)
    for i in range(per):
        offsets, positions, within, inside = tile_at(
            split * per + per - 1 - i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
        )
        real = real_at(mask_ptr, positions, within, inside)
        g, x_hat = _gradient(
            dy_ptr, x_ptr, r_ptr, y_ptr, offsets, real, mean, invstd, weight, bias,
            CODE, SLOPE, ACC,
        )  # fmt: skip
        dx = _input_gradient(g, x_hat, invstd, weight, total, total_x, size)
        _store(dx_ptr, offsets, dx, real, inside)
        _store(dr_ptr, offsets, g, real, inside)


@triton.jit
def train_backward_kernel(
    dy_ptr, x_ptr, w_ptr, b_ptr, mean_ptr, invstd_ptr, r_ptr, y_ptr, mask_ptr,
    dx_ptr, dr_ptr, sum_dy_ptr, sum_dy_xhat_ptr,
    n, channels, units, tiles_s, per,
    CODE: tl.constexpr, SLOPE: tl.constexpr, ON_CHIP: tl.constexpr,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Reduce and apply whole channels in one program; ``ON_CHIP``: each tensor is read once."""
    ACC: tl.constexpr = sum_dy_ptr.dtype.element_ty
    block = tl.program_id(0).to(INDEX)
    at_c, exists = channel_at(block, channels, INDEX, BC)
    mean = load_channel(mean_ptr, at_c, exists, 0.0, ACC)
    invstd = load_channel(invstd_ptr, at_c, exists, 0.0, ACC)
    weight = load_channel(w_ptr, at_c, exists, 1.0, ACC)
    bias = load_channel(b_ptr, at_c, exists, 0.0, ACC)
    if ON_CHIP:
        offsets, positions, within, inside = tile_at(
            block * 0, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
        )
        real = real_at(mask_ptr, positions, within, inside)
        g, x_hat = _gradient(
            dy_ptr, x_ptr, r_ptr, y_ptr, offsets, real, mean, invstd, weight, bias,
            CODE, SLOPE, ACC,
        )  # fmt: skip
        total, total_x = sum_tile(g), sum_tile(g * x_hat)
        size = tl.maximum(sum_tile(real.to(tl.int32)), 1).to(ACC)
        dx = _input_gradient(g, x_hat, invstd, weight, total, total_x, size)
        _store(dx_ptr, offsets, dx, real, inside)
        _store(dr_ptr, offsets, g, real, inside)
    else:
        count = tl.zeros((BN, BC, BS), tl.int32)
        lanes = tl.zeros((BN, BC, BS), ACC)
        lanes_x = tl.zeros((BN, BC, BS), ACC)
        for i in range(per):
            offsets, positions, within, inside = tile_at(
                block * 0 + i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
            )
            real = real_at(mask_ptr, positions, within, inside)
            g, x_hat = _gradient(
                dy_ptr, x_ptr, r_ptr, y_ptr, offsets, real, mean, invstd, weight, bias,
                CODE, SLOPE, ACC,
            )  # fmt: skip
            count += real.to(tl.int32)
            lanes += g
            lanes_x += g * x_hat
        total, total_x = sum_tile(lanes), sum_tile(lanes_x)
        size = tl.maximum(sum_tile(count), 1).to(ACC)
        for i in range(per):
            offsets, positions, within, inside = tile_at(
                block * 0 + per - 1 - i, block, n, channels, units, tiles_s, INDEX, UNIT, BN, BC, BS
            )
            real = real_at(mask_ptr, positions, within, inside)
            g, x_hat = _gradient(
                dy_ptr, x_ptr, r_ptr, y_ptr, offsets, real, mean, invstd, weight, bias,
                CODE, SLOPE, ACC,
            )  # fmt: skip
            dx = _input_gradient(g, x_hat, invstd, weight, total, total_x, size)
            _store(dx_ptr, offsets, dx, real, inside)
            _store(dr_ptr, offsets, g, real, inside)
    tl.store(sum_dy_ptr + at_c, total, mask=exists)
    tl.store(sum_dy_xhat_ptr + at_c, total_x, mask=exists)
