"""Measured: a synchronised layer on 1 to 4 ranks of this machine over gloo, and the merge alone.

``python -m benchmarks.sync_points`` starts the ranks by itself and writes
``benchmarks/results/sync_points.json``. The input is small, so that what is measured is the
synchronisation; with more ranks than cores the ranks also wait for each other's processor.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

import batchnorm as bn
from batchnorm.ops._sync import merge_all_ranks
from benchmarks.machine import ROOT, header
from benchmarks.store import Store, load
from benchmarks.words import markdown

__all__ = ["merge_table", "points_table"]

RESULTS = ROOT / "benchmarks" / "results" / "sync_points.json"
CHANNELS = (64, 512, 2048)
RANKS = (1, 2, 3, 4)
WORLDS = (2, 8, 64, 256, 1024)
ROUNDS, WARM_UP = 100, 10


def points_table() -> str:
    """Microseconds of forward and backward, as Markdown."""
    rows = {(r["what"], r["ranks"], r["channels"]): r["us"] for r in _rows()}
    head = ["ranks", *(f"C={c}: layer" for c in CHANNELS), *(f"C={c}: wire" for c in CHANNELS)]
    body = [
        [str(n), *(f"{rows[what, n, c]:.0f}" for what in ("layer", "wire") for c in CHANNELS)]
        for n in RANKS
    ]
    return markdown(head, body, text_columns=0)


def merge_table() -> str:
    """Microseconds of merging everyone's statistics, as Markdown."""
    rows = {(r["ranks"], r["channels"]): r["us"] for r in _rows() if r["what"] == "merge"}
    head = ["ranks", *(f"C={c}" for c in CHANNELS)]
    body = [[str(n), *(f"{rows[n, c]:.0f}" for c in CHANNELS)] for n in WORLDS]
    return markdown(head, body, text_columns=0)


def header_line() -> str:
    """Machine and versions."""
    content = load(RESULTS)
    assert content is not None
    head = content["header"]
    return f"{head['cpu']}, {head['cores']} cores, torch {head['torch']}, {head['date']}"


def _rows() -> list[dict]:
    content = load(RESULTS)
    return [] if content is None else content["rows"]


def microseconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Lower decile of a call's time: on a machine with other work, what the call itself takes."""
    times = []
    for n in range(WARM_UP + rounds):
        start = time.perf_counter()
        call()
        if n >= WARM_UP:
            times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=10)[0] * 1e6


def layer_step(channels: int) -> Callable[[], object]:
    layer = bn.SyncBatchNorm(channels)
    x = torch.randn(4, channels, 2, 2, requires_grad=True)
    cotangent = torch.randn_like(x)

    def step() -> None:
        layer(x).backward(cotangent)

    return step


def wire(channels: int) -> Callable[[], object]:
    """The two collectives alone."""
    sent, sums = torch.zeros(2 * channels + 4), torch.zeros(2 * channels + 3)
    everyone = torch.empty(dist.get_world_size() * len(sent))

    def step() -> None:
        dist.all_gather_single(everyone, sent)
        dist.all_reduce(sums)

    return step


def on_rank() -> None:
    """Measure, and let rank 0 print."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for channels in CHANNELS:
        for what, make in (("layer", layer_step), ("wire", wire)):
            us = microseconds(make(channels))
            if dist.get_rank() == 0:
                print("point", what, dist.get_world_size(), channels, f"{us:.1f}", flush=True)
    dist.destroy_process_group()


def merge_points() -> list[list[str]]:
    torch.set_num_threads(1)
    found = []
    for ranks in WORLDS:
        for channels in CHANNELS:
            stats = torch.rand(ranks, 2 * channels)
            count = torch.full((ranks, 1), 7)
            us = microseconds(lambda s=stats, n=count: merge_all_ranks(s, n), 20)
            found.append(["merge", str(ranks), str(channels), f"{us:.1f}"])
    return found


def run() -> None:
    """All points, into the results folder."""
    store = Store(RESULTS, header(threads=1, compiled=False))
    points = merge_points()
    for ranks in RANKS:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(ranks), "-m", "benchmarks.sync_points", "rank"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        lines = (line.split() for line in done.stdout.splitlines())
        points += [words[1:] for words in lines if words[:1] == ["point"]]
    for what, ranks_text, channels, us in points:
        key = f"{what} {ranks_text} {channels}"
        numbers = {"ranks": int(ranks_text), "channels": int(channels), "us": float(us)}
        store.add({"key": key, "status": "ok", "noisy": False, "what": what, **numbers})
    store.finish(complete=True)
    print(points_table(), merge_table(), sep="\n\n")


if __name__ == "__main__":
    on_rank() if sys.argv[1:] == ["rank"] else run()
