"""What the ranks run: each checks for itself, so that a failure has its own traceback."""

import copy
import os
import socket

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import batchnorm as bn


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def launch(check, ranks: int) -> None:
    """Run ``check(rank)`` in ``ranks`` processes joined by gloo."""
    torch.multiprocessing.spawn(_join, (check, ranks, free_port()), nprocs=ranks)


def _join(rank: int, check, ranks: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    try:
        check(rank)
    finally:
        dist.destroy_process_group()


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), bn.BatchNorm2d(4, activation="relu"), nn.Flatten(), nn.Linear(144, 2)
    ).double()


def ddp(rank: int) -> None:
    """Gradients are the mean over ranks of each rank's own; buffers follow rank 0."""
    model = DistributedDataParallel(net())
    alone = [net(), net()]
    g = torch.Generator().manual_seed(5)
    for _ in range(3):
        xs = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64, generator=g)
        model.zero_grad()
        model(xs[rank]).square().sum().backward()
        alone[1].load_state_dict(alone[0].state_dict())  # rank 0's buffers are broadcast
        for one, x in zip(alone, xs, strict=True):
            one.zero_grad()
            one(x).square().sum().backward()
        for p, *qs in zip(model.parameters(), *(m.parameters() for m in alone), strict=True):
            want = sum(q.grad for q in qs) / 2
            torch.testing.assert_close(p.grad, want, rtol=1e-9, atol=1e-9)
        for (name, b), c in zip(model.module.named_buffers(), alone[rank].buffers(), strict=True):
            torch.testing.assert_close(b, c, rtol=1e-12, atol=1e-12, msg=name)


def ddp_two_forwards(rank: int) -> None:
    """Two forwards before one backward, with broadcast buffers: torch's layer raises here."""
    model = DistributedDataParallel(net(), broadcast_buffers=True)
    x = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    (model(x[0]) - model(x[1])).square().sum().backward()
    assert model.module[1].num_batches_tracked.item() == 2
    assert model.module[1].weight.grad.isfinite().all()


def fsdp(rank: int) -> None:
    """Sharded parameters train as whole ones; buffers stay float32 under mixed precision."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks,))
    plain = net()
    model = copy.deepcopy(plain)
    fully_shard(model, mesh=mesh)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    opts = [torch.optim.SGD(m.parameters(), 0.01) for m in (model, plain)]
    for _ in range(3):
        for one, opt in zip((model, plain), opts, strict=True):
            opt.zero_grad()
            one(x).square().sum().backward()
            opt.step()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.full_tensor(), q, rtol=1e-9, atol=1e-9)
    for (name, b), c in zip(model.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(b, c, rtol=1e-9, atol=1e-9, msg=name)

    mixed = net().float()
    fully_shard(mixed, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    y = mixed(x.float())
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert mixed[1].running_mean.dtype == torch.float32
    assert mixed[1].num_batches_tracked.item() == 1
