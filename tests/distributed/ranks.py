"""What a rank of a test run needs: its share of a batch, and the others' tensors."""

import dataclasses
import datetime
import os
import sys
import time
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from tests.cases import Case

Check = Callable[[], None]


def share(t: Tensor | None, sizes: list[int]) -> Tensor | None:
    """This rank's samples, in memory of their own that is laid out as the whole is."""
    if t is None:
        return None
    return t.split(sizes)[dist.get_rank()].clone(memory_format=torch.preserve_format)


def own_part(case: Case, sizes: list[int]) -> Case:
    """This rank's samples of a case."""
    names = ("input", "residual", "mask", "grad")
    return dataclasses.replace(case, **{n: share(getattr(case, n), sizes) for n in names})


def uneven(total: int) -> list[int]:
    """Shares of a batch that differ."""
    ranks = dist.get_world_size()
    sizes = [total // ranks + (-1) ** rank for rank in range(ranks)]
    return [total - sum(sizes[1:]), *sizes[1:]]


def last_without(total: int) -> list[int]:
    """Shares of a batch of which the last rank has none."""
    sizes = uneven(total)
    return [sizes[0] + sizes[-1], *sizes[1:-1], 0]


def everyones(t: Tensor) -> list[Tensor]:
    """The same tensor of all ranks."""
    parts = [torch.empty_like(t) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, t.contiguous())
    return parts


def joined(t: Tensor, sizes: list[int]) -> Tensor:
    """The whole batch from everyone's share."""
    parts: list[Tensor] = [torch.empty(0)] * len(sizes)
    dist.all_gather_object(parts, t.detach())
    return torch.cat(parts)


def summed(t: Tensor) -> Tensor:
    """Sum over ranks, in float64."""
    result = t.detach().double()
    dist.all_reduce(result)
    return result


def assert_equal_bits(t: Tensor, what: str) -> None:
    """Every rank has the same bits."""
    first, *others = everyones(t.detach())
    for rank, other in enumerate(others, 1):
        assert torch.equal(first, other), f"{what} of ranks 0 and {rank} differ"


def run(checks: list[Check], seconds: float) -> None:
    """Join the group, run every check, say how long each took; any failure ends all ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=seconds))
    chosen = [check for check in checks if not sys.argv[1:] or check.__name__ in sys.argv[1:]]
    for check in chosen:
        torch.manual_seed(0)
        start = time.perf_counter()
        try:
            check()
        except BaseException:
            traceback.print_exc()
            print(f"rank {dist.get_rank()} failed in {check.__name__}", flush=True)
            os._exit(1)
        if dist.get_rank() == 0:
            print(f"{check.__name__}: {time.perf_counter() - start:.2f} s", flush=True)
    dist.destroy_process_group()
