"""How a tensor is cut into programs: a small table of rules, each with its reason.

No autotuning: the cut decides the order of additions, so results would depend on a stopwatch. Nor
does it depend on the device: the same input gives the same bits on every GPU of one kind.
"""

from dataclasses import dataclass
from typing import Any

import torch

from ._types import index_type

__all__ = ["LIMITS", "Cut", "Limits", "cut"]


@dataclass(frozen=True)
class Limits:
    """The numbers of the table.

    Args:
        on_chip: elements of a tile that stays in registers: 16 warps of 16 values per thread. The
            compiler then spills nothing for sm_90, in the backward with three tensors either;
            twice as many did.
        tile: elements of a tile that is streamed: 4 warps of 16 values per thread, four 16-byte
            loads in float32; more registers would lower the number of warps that hide latency.
        programs: wanted in flight: 132 multiprocessors of 16 programs of 4 warps are 2112.
        run: channels of a tile where they lie side by side: 64 of 2 bytes are a line of 128.
        space: longest run of positions in a tile; longer planes are cut.
        narrow: least channels of a tile when there would be few programs: one 32-byte sector.
        few: programs below which tiles are made narrower.
        cached: bytes of a block of channels that are read twice by one program: two or three
            programs of 8 warps run on each of 132 multiprocessors, and 50 MB of cache must hold
            what they read.
        enough: blocks of channels that keep the device busy without cutting along positions.
        splits: partial results per channel that one program merges.
    """

    on_chip: int = 8192
    tile: int = 2048
    programs: int = 2048
    run: int = 64
    space: int = 1024
    narrow: int = 16
    few: int = 64
    cached: int = 128 * 1024
    enough: int = 128
    splits: int = 1024


LIMITS = Limits()


@dataclass(frozen=True)
class Cut:
    """Sizes of one launch.

    Args:
        n: samples, or rows when channels lie innermost.
        channels: of the tensor.
        space: positions of a plane; 1 when channels lie innermost.
        unit: the largest power of two up to 16 that divides ``space``.
        block: elements of a tile: samples, channels, positions; powers of two.
        tiles_s: tiles along a plane.
        per: tiles that one program walks through.
        splits: programs that share a block of channels.
        on_chip: a block of channels is one tile.
        warps: of a program.
    """

    n: int
    channels: int
    space: int
    unit: int
    block: tuple[int, int, int]
    tiles_s: int
    per: int
    splits: int
    on_chip: bool
    warps: int

    @property
    def blocks(self) -> int:
        """Blocks of channels."""
        return _ceil(self.channels, self.block[1])

    @property
    def programs(self) -> int:
        """Programs of a launch."""
        return self.blocks * self.splits

    @property
    def merge(self) -> tuple[int, int, int]:
        """Splits and channels of a tile of partial results, and programs to merge them all."""
        block_p = _power(self.splits)
        block_c = min(_power(self.channels), max(1, LIMITS.tile // block_p))
        return block_p, block_c, _ceil(self.channels, block_c)

    @property
    def shape_args(self) -> tuple[int, int, int, int, int]:
        """``n, channels, units, tiles_s, per``, as the kernels take them."""
        return self.n, self.channels, self.space // self.unit, self.tiles_s, self.per

    @property
    def index(self) -> Any:
        """Type of offsets."""
        return index_type(self.n * self.channels * self.space)

    @property
    def meta(self) -> dict[str, Any]:
        """Compile-time sizes, as the kernels take them."""
        block_n, block_c, block_s = self.block
        return {
            "INDEX": self.index,
            "UNIT": self.unit,
            "BN": block_n,
            "BC": block_c,
            "BS": block_s,
            "num_warps": self.warps,
        }


def cut(n: int, channels: int, space: int, dtype: torch.dtype, *, whole: bool) -> Cut:
    """Cut ``(n, channels, space)``, none of them 0.

    | case | program | reason |
    |---|---|---|
    | a channel fits in registers, ``whole`` | a block of channels, one tile | read once |
    | many channels that fit in the cache, ``whole`` | a block of channels | one launch |
    | all others | part of a block of channels | few channels must fill the device too |

    Args:
        n: samples, or rows.
        channels: at least 1.
        space: positions of a plane, or 1.
        dtype: of the tensor.
        whole: statistics and their use are one kernel, if a program may have a whole channel.
    """
    block_s = min(_power(space), LIMITS.space)
    block_c = min(_power(channels), max(1, LIMITS.run // block_s))
    while _ceil(channels, block_c) < LIMITS.few and block_c * block_s > LIMITS.narrow:
        if block_c == 1:
            break
        block_c //= 2
    tiles_s, blocks = _ceil(space, block_s), _ceil(channels, block_c)
    all_n = _power(n)
    sizes = n, channels, space, _unit(space)

    if whole and tiles_s == 1 and all_n * block_c * block_s <= LIMITS.on_chip:
        block = all_n, block_c, block_s
        warps = min(16, max(1, all_n * block_c * block_s // 512))
        return Cut(*sizes, block, 1, 1, 1, True, _power(warps))

    bytes_of_block = n * space * block_c * dtype.itemsize
    in_cache = whole and blocks >= LIMITS.enough and bytes_of_block <= LIMITS.cached
    elements = LIMITS.tile * 2 if in_cache else LIMITS.tile
    block_n = min(all_n, max(1, elements // (block_c * block_s)))
    tiles = _ceil(n, block_n) * tiles_s
    wanted = 1 if in_cache else _ceil(LIMITS.programs, blocks)
    per = _ceil(tiles, min(wanted, LIMITS.splits, tiles))
    splits = _ceil(tiles, per)

    return Cut(
        *sizes, (block_n, block_c, block_s), tiles_s, per, splits, False, 8 if in_cache else 4
    )


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _power(value: int) -> int:
    """The next power of two."""
    return 1 << (value - 1).bit_length()


def _unit(space: int) -> int:
    return min(16, space & -space)
