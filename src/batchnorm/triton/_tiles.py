"""What every kernel does with a tile: where it lies, what is real in it, its statistics.

A tensor is ``(n, channels, space)`` in memory. Channels-last and ``(N, C)`` tensors are the case
``space == 1`` with ``n`` rows, so one addressing serves all layouts. A tile is ``[BN, BC, BS]`` of
it. ``INDEX`` is the type of offsets: 64 bits for a tensor of 2³¹ elements or more, else 32, which
leaves registers for values.
"""

import triton
import triton.language as tl

__all__ = [
    "channel_at",
    "lanes_add",
    "lanes_merge",
    "load_channel",
    "real_at",
    "sum_tile",
    "tile_at",
    "tile_statistics",
]


@triton.jit
def tile_at(
    tile, block, n, channels, units, tiles_s,
    INDEX: tl.constexpr, UNIT: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Offsets and positions of a tile, and which of it lies in the tensor.

    ``space = units * UNIT`` tells the compiler a power of two that divides it: wide loads.
    """
    space = units * UNIT
    at_n = (tile // tiles_s) * BN + tl.arange(0, BN)[:, None, None].to(INDEX)
    at_s = (tile % tiles_s) * BS + tl.arange(0, BS)[None, None, :].to(INDEX)
    at_c = block * BC + tl.arange(0, BC)[None, :, None].to(INDEX)
    within = (at_n < n) & (at_s < space)
    offsets = (at_n * channels + at_c) * space + at_s
    positions = at_n * space + at_s

    return offsets, positions, within, within & (at_c < channels)


@triton.jit
def channel_at(block, channels, INDEX: tl.constexpr, BC: tl.constexpr):
    """Indices of a block of channels ``[1, BC, 1]`` and which of them exist."""
    at_c = block * BC + tl.arange(0, BC)[None, :, None].to(INDEX)

    return at_c, at_c < channels


@triton.jit
def real_at(mask, positions, within, inside):
    """Which elements of a tile count: all inside, without those that the mask calls padding."""
    if mask is not None:
        real = inside & (tl.load(mask + positions, mask=within, other=0) != 0)
    else:
        real = inside

    return real


@triton.jit
def load_channel(pointer, at_c, exists, DEFAULT: tl.constexpr, ACC: tl.constexpr):
    """Values of a block of channels in the accumulation dtype; ``DEFAULT`` without a tensor."""
    if pointer is not None:
        values = tl.load(pointer + at_c, mask=exists, other=DEFAULT).to(ACC)
    else:
        values = tl.full(at_c.shape, DEFAULT, ACC)

    return values


@triton.jit
def sum_tile(x):
    """Sum over positions: ``[BN, BC, BS]`` to ``[1, BC, 1]``; a tree, the same for each run."""
    return tl.sum(tl.sum(x, axis=2, keep_dims=True), axis=0, keep_dims=True)


@triton.jit
def lanes_add(count, mean, m2, x, real):
    """Welford's step in each lane of a tile; padded lanes stay as they are."""
    count += real.to(tl.int32)
    delta = tl.where(real, x - mean, 0.0).to(x.dtype)
    mean += delta / tl.maximum(count, 1).to(x.dtype)
    m2 += tl.where(real, delta * (x - mean), 0.0).to(x.dtype)

    return count, mean, m2


@triton.jit
def tile_statistics(x, real):
    """Count, mean and sum of squared deviations of one tile, x being 0 where it is padded."""
    total = sum_tile(real.to(tl.int32))
    size = tl.maximum(total, 1).to(x.dtype)
    rough = sum_tile(x) / size
    centre = rough + sum_tile(tl.where(real, x - rough, 0.0).to(x.dtype)) / size
    spread = tl.where(real, x - centre, 0.0).to(x.dtype)
    shift = sum_tile(spread)
    squares = sum_tile(spread * spread) - shift * (shift / size)

    return total, centre, tl.where(squares < 0, 0.0, squares).to(x.dtype)


@triton.jit
def lanes_merge(count, mean, m2):
    """Count, mean and sum of squared deviations of all lanes of a channel.

    Chan, Golub & LeVeque 1983, the corrected two-pass form, over lanes weighted by their counts.
    """
    total = sum_tile(count)
    weight = count.to(mean.dtype)
    size = tl.maximum(total, 1).to(mean.dtype)
    rough = sum_tile(weight * mean) / size
    centre = rough + sum_tile(weight * (mean - rough)) / size
    spread = tl.where(count > 0, mean - centre, 0.0).to(mean.dtype)
    shift = sum_tile(weight * spread) / size
    squares = sum_tile(m2 + weight * spread * spread) - sum_tile(weight) * shift * shift

    # NaN fails the comparison and stays.
    return total, centre, tl.where(squares < 0, 0.0, squares).to(mean.dtype)
