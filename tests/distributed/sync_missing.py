"""Rank 1 does not come: ``torchrun -m tests.distributed.sync_missing (hang and die|size)``."""

import datetime
import os
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

import batchnorm as bn

TIMEOUT, LONG = 1.0, 60.0


def seconds(n: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=n)


def hang_and_die() -> None:
    """First rank 1 is busy elsewhere, then it is gone."""
    cases = [(f, p, dist.new_group(timeout=seconds(t)), t) for f, t in
             (("hang", TIMEOUT), ("die", LONG)) for p in ("forward", "backward")]  # fmt: skip
    acts = [act(phase, group) for _, phase, group, _ in cases]
    store = dist.distributed_c10d._get_default_store()
    if dist.get_rank() == 1:
        store.wait(["hangs noticed"], seconds(LONG))
        time.sleep(0.5)
        os._exit(0)
    for (fault, phase, _, timeout), one in zip(cases, acts, strict=True):
        if fault == "die":
            store.set("hangs noticed", "yes")
        noticed(f"{fault} {phase}", one, 2 * timeout + 1)


def act(phase: str, group: dist.ProcessGroup) -> Callable[[], object]:
    """A forward, or the backward of one that has been."""
    layer = bn.SyncBatchNorm(6, process_group=group, name="head.bn")
    output = layer(torch.randn(4, 6, requires_grad=True))
    if phase == "forward":
        return lambda: layer(torch.randn(4, 6))
    return lambda: output.sum().backward()


def size() -> None:
    """Rank 0 calls a layer of 6 channels, rank 1 one of 600."""
    layers = [bn.SyncBatchNorm(n, name=name) for n, name in ((6, "narrow"), (600, "wide"))]
    for layer in layers:
        layer(torch.randn(4, layer.num_features))
    mine = layers[dist.get_rank()]
    noticed("size", lambda: mine(torch.randn(4, mine.num_features)), 2 * TIMEOUT + 1)


def noticed(what: str, one: Callable[[], object], limit: float) -> None:
    start = time.perf_counter()
    try:
        one()
    except RuntimeError as error:
        took = time.perf_counter() - start
        assert took < limit, took
        print(f"{what}: {error}", flush=True)
        return
    print(f"{what}: rank {dist.get_rank()} noticed nothing", flush=True)
    os._exit(1)


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=seconds(LONG))
    hang_and_die() if sys.argv[1:] == ["hang and die"] else size()
    time.sleep(1.0)  # torchrun ends the others when one leaves
    os._exit(0)
