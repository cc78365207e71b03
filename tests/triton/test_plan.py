"""The table of cuts: which way each of the shapes that people use is taken."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed (`make triton` installs it)")

from batchnorm.triton._plan import LIMITS, cut

SHAPES = [
    (256, 64, 3136),
    (256, 256, 3136),
    (256, 512, 784),
    (256, 1024, 196),
    (256, 2048, 49),
    (1024, 16, 1024),
    (32, 128, 16000),
    (65536, 1024, 1),
    (802816, 64, 1),
    (12544, 2048, 1),
    (1, 3, 50176),
    (1, 1, 1),
    (3, 100000, 1),
    (2**31, 1, 1),
]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_cut_covers_the_tensor_and_keeps_its_limits(shape, dtype, whole):
    n, channels, space = shape
    plan = cut(n, channels, space, dtype, whole=whole)
    block_n, block_c, block_s = plan.block
    tiles = -(-n // block_n) * plan.tiles_s
    assert plan.tiles_s * block_s >= space
    assert plan.blocks * block_c >= channels
    assert plan.per * plan.splits >= tiles > plan.per * (plan.splits - 1)
    assert block_n * block_c * block_s <= (LIMITS.on_chip if plan.on_chip else 2 * LIMITS.tile)
    assert plan.splits <= LIMITS.splits
    assert space % plan.unit == 0
    assert all(size & (size - 1) == 0 for size in (*plan.block, plan.warps, *plan.merge[:2]))
    # A grid's first dimension.
    assert plan.programs < 2**31


@pytest.mark.parametrize(
    ("shape", "dtype", "way"),
    [
        ((256, 64, 3136), torch.bfloat16, "split"),
        ((256, 1024, 196), torch.bfloat16, "cached"),
        ((256, 1024, 196), torch.float32, "split"),
        ((256, 2048, 49), torch.float32, "cached"),
        ((128, 2048, 49), torch.float32, "on chip"),
        ((65536, 1024, 1), torch.bfloat16, "split"),
        ((1, 3, 50176), torch.float32, "split"),
        ((8, 16, 16), torch.float32, "on chip"),
    ],
)
def test_each_shape_takes_the_way_that_the_table_says(shape, dtype, way):
    plan = cut(*shape, dtype, whole=True)
    taken = "on chip" if plan.on_chip else "cached" if plan.splits == 1 else "split"
    assert taken == way


@pytest.mark.parametrize("shape", SHAPES[:9], ids=str)
def test_large_tensors_make_enough_programs(shape):
    plan = cut(*shape, torch.bfloat16, whole=True)
    assert plan.programs >= 1024


def test_offsets_are_wide_only_where_they_must_be():
    import triton.language as tl

    assert cut(2**10, 2**10, 2**9, torch.float32, whole=True).index == tl.int32
    assert cut(2**10, 2**10, 2**10, torch.float32, whole=True).index == tl.int64
