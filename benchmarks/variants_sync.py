"""Two ranks over gloo: our layer, and the formula of torch's, which refuses the CPU.

Rank 0 measures; rank 1 does what rank 0 says, so that both make the same calls.
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

import batchnorm
from benchmarks.check import compare
from benchmarks.context import Context
from benchmarks.ops import training_side
from benchmarks.rows import Row, guarded, timed_row, wrong_row
from benchmarks.runner import Plan, Side, measure
from benchmarks.synchronised import formula
from benchmarks.trial import Data, Way, peaks, results, wide, wrong
from benchmarks.variants_common import kind, make_data, module_way, numbers
from benchmarks.worker import main, run_worker

__all__ = ["rows"]

RANKS = 2
SHAPES = ((16, 64, 56, 56), (16, 512, 7, 7), (128, 1024))
PUBLIC = ["formula of torch's"]
# Gloo's threads wait for processors that the ranks are using: that is part of what is measured.
_PLAN = Plan(rounds=11, least=5, max_rounds=22, seconds=2.5, stall=0.25)
_QUICK = Plan(rounds=5, least=3, max_rounds=8, seconds=1.0, stall=0.25)
_STOP = -1


def rows(context: Context) -> list[tuple[str, Callable[[], Row]]]:
    """Each shape is the batch of one rank."""
    return [_entry(shape, context) for shape in SHAPES[: 1 if context.quick else None]]


def _entry(shape: tuple[int, ...], context: Context) -> tuple[str, Callable[[], Row]]:
    key = f"sync {'x'.join(map(str, shape))} on each of {RANKS} ranks"
    facts = {
        "variant": "sync",
        "shape": list(shape),
        "detail": f"on each of {RANKS} ranks",
        "dtype": "float32",
        "mib": torch.Size(shape).numel() * 4 / 2**20,
        "public": PUBLIC,
    }
    threads = max(1, context.threads // RANKS)
    task = {**facts, "key": key, "threads": threads, "quick": context.quick}

    def make() -> Row:
        context.tick()
        return run_worker("benchmarks.variants_sync", task, timeout=120)

    return key, lambda: guarded(key, facts, make)


def work(task: Row) -> Row:
    """Rank 0, which starts the others."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        start = multiprocessing.get_context("spawn").Process
        others = [start(target=follow, args=(task, rank, meeting), daemon=True)
                  for rank in range(1, RANKS)]  # fmt: skip
        for other in others:
            other.start()
        try:
            row = lead(task, meeting)
        finally:
            for other in others:
                other.join(5)
                other.kill()
    return row


def lead(task: Row, meeting: str) -> Row:
    ways, data, errors, reasons = _join(task, 0, meeting)
    names = ("variant", "shape", "detail", "dtype", "mib", "public")
    facts = {**{name: task[name] for name in names}, "errors": errors}
    try:
        reason = "; ".join(f"rank {rank}: {text}" for rank, text in enumerate(reasons) if text)
        if reason:
            return wrong_row(task["key"], facts, reason)
        sides = [_led(index, side) for index, side in enumerate(_sides(ways, data))]
        facts["peak_mib"] = peaks(sides)
        return timed_row(task["key"], facts, measure(sides, _QUICK if task["quick"] else _PLAN))
    finally:
        _agree(_STOP)
        dist.destroy_process_group()


def follow(task: Row, rank: int, meeting: str) -> None:
    ways, data, _, _ = _join(task, rank, meeting)
    sides = _sides(ways, data)
    while (index := _agree(0)) != _STOP:
        sides[index].call()
    dist.destroy_process_group()


def _agree(word: int) -> int:
    """Rank 0's word, to all; the others say 0. All leave at about the same time."""
    said = torch.tensor(word)
    dist.all_reduce(said)
    return int(said)


def _led(index: int, side: Side) -> Side:
    def call() -> tuple[int, ...]:
        _agree(index)
        return side.call()

    return Side(side.name, call, side.phases)


def _sides(ways: dict[str, Way], data: Data) -> list[Side]:
    return [training_side(name, way, data["grad"]) for name, way in ways.items()]


def _join(task: Row, rank: int, meeting: str) -> tuple[dict[str, Way], Data, Row, list[str]]:
    """Meet the others; the ways on this rank's part, their errors, what is wrong on each rank."""
    torch.set_num_threads(task["threads"])
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=RANKS)
    samples, channels, *space = task["shape"]
    whole = make_data((RANKS * samples, channels, *space))
    mine = slice(rank * samples, (rank + 1) * samples)
    data = {name: t[mine] if name in ("input", "grad") else t for name, t in whole.items()}
    ways = {
        "ours": module_way(batchnorm.SyncBatchNorm(channels), data),
        "plain": module_way(kind(task["shape"], batchnorm)(channels), data),
        PUBLIC[0]: formula(data),
    }

    expected = of_one_process(wide(whole), mine)
    errors = {
        name: compare(results(way, data["grad"]), expected)
        for name, way in ways.items() if name != "plain"
    }  # fmt: skip
    reason = wrong(errors, PUBLIC, numbers((RANKS * samples, channels, *space)))
    reasons: list[str] = [""] * RANKS
    dist.all_gather_object(reasons, reason)
    return ways, data, errors, reasons


def of_one_process(whole: Data, mine: slice) -> dict[str, Tensor]:
    """What a rank should find: its samples of the whole batch, its own sums for the weights."""
    x = whole["input"].requires_grad_()
    rows = x.shape[0]
    # A weight and bias for each sample, so that the sums of each rank can be told apart.
    weight, bias = (
        whole[name].expand(rows, -1).clone().requires_grad_() for name in ("weight", "bias")
    )
    mean, var = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
    x_hat = F.batch_norm(x, mean, var, None, None, True)
    shape = (*weight.shape, *(1,) * (x.dim() - 2))
    output = x_hat * weight.view(shape) + bias.view(shape)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(output, [x, weight, bias], whole["grad"])
    return {
        "output": output.detach()[mine],
        "grad_input": grad_x[mine],
        "grad_weight": grad_weight[mine].sum(0),
        "grad_bias": grad_bias[mine].sum(0),
        "running_mean": mean,
        "running_var": var,
    }


if __name__ == "__main__":
    main(work)
