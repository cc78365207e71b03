"""Folded against unfolded inference, and frozen batch norm in training: time and kept bytes.

Run it with ``python -m benchmarks.folding``; it writes ``benchmarks/results/folding.json``.
"""

import copy
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import batchnorm as bn
from batchnorm.lab import models
from benchmarks.machine import header
from benchmarks.runner import Plan, Side, Timing, measure

RESULT = Path(__file__).parent / "results" / "folding.json"
NETWORKS: dict[str, tuple[Callable[[Callable[[int], nn.Module]], nn.Module], tuple[int, ...]]] = {
    "ResNet-18": (lambda norm: models.resnet18(norm, seed=0), (4, 3, 96, 96)),
    "ResNet-50": (lambda norm: models.resnet50(norm, seed=0), (2, 3, 96, 96)),
    "MobileNetV2": (lambda norm: models.MobileNetV2(norm, seed=0), (4, 3, 96, 96)),
    "MobileNetV3 large": (
        lambda norm: models.MobileNetV3(norm, seed=0, size="large"),
        (4, 3, 96, 96),
    ),
}
PLAN = Plan(rounds=9, max_rounds=12, seconds=8.0, block_seconds=0.05)


def trained(model: nn.Module, x: Tensor) -> nn.Module:
    """Statistics of a few batches, so that folding has something to do."""
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn_like(x))
    return model


def timed(name: str, call: Callable[[], object]) -> Side:
    def run() -> tuple[int, ...]:
        started = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - started,)

    return Side(name, run)


def inference(build: Callable[..., nn.Module], x: Tensor) -> tuple[Timing, dict[str, object]]:
    plain = trained(build(nn.BatchNorm2d), x).eval()
    ours = copy.deepcopy(plain)
    bn.convert(ours)
    folded = copy.deepcopy(plain)
    error = bn.fold(folded, x).proofs[0].max_rel
    sides = {"torch": plain, "ours": ours, "folded": folded}
    with torch.no_grad():
        timing = measure([timed(n, functools.partial(m, x)) for n, m in sides.items()], PLAN)
    return timing, {"error": error}


def frozen(build: Callable[..., nn.Module], x: Tensor) -> dict[str, nn.Module]:
    plain = trained(build(nn.BatchNorm2d), x)
    made = {
        name: copy.deepcopy(plain) for name in ("training", "torch, eval()", "frozen", "folded")
    }
    for module in made["torch, eval()"].modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    bn.freeze(made["frozen"])
    bn.freeze(made["folded"], fold=True)
    made["frozen, affine too"] = copy.deepcopy(plain)
    bn.freeze(made["frozen, affine too"], affine=True)
    return made


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """What autograd keeps beside parameters, buffers and the input."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), x)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x)
    del output
    return sum(kept.values())


def steps(made: dict[str, nn.Module], x: Tensor) -> Timing:
    def step(model: nn.Module) -> Callable[[], object]:
        return lambda: model(x).square().mean().backward()

    return measure([timed(name, step(model)) for name, model in made.items()], PLAN)


def row(network: str, what: str, timing: Timing, more: dict[str, object]) -> dict[str, object]:
    seconds = {side: timing.values(side) for side in timing.sides()}
    return {"network": network, "what": what, "noisy": timing.noisy, "seconds": seconds, **more}


def show(row: dict[str, Any], base: str) -> None:
    seconds: dict[str, list[float]] = row["seconds"]
    for side, values in seconds.items():
        pairs = zip(values, seconds[base], strict=True)
        ratio = median(value / other for value, other in pairs)
        kept = row.get("kept", {}).get(side)
        size = "" if kept is None else f"{kept / 2**20:.1f} MiB"
        noise = "noisy" if row["noisy"] else ""
        print(
            f"{row['network']} | {row['what']} | {side} | {ratio:.2f} | {size} | {noise}",
            flush=True,
        )


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    print("network | what | side | time / first | kept for backward |")
    for network, (build, shape) in NETWORKS.items():
        torch.manual_seed(0)
        x = torch.randn(shape)
        timing, more = inference(build, x)
        rows.append(row(network, "inference", timing, more))
        show(rows[-1], "torch")
        made = frozen(build, x)
        kept = {name: kept_bytes(model, x) for name, model in made.items()}
        rows.append(row(network, "training step", steps(made, x), {"kept": kept}))
        show(rows[-1], "torch, eval()")
        text = json.dumps({"header": header(threads=1), "rows": rows}, indent=1)
        RESULT.write_text(text + "\n")


if __name__ == "__main__":
    main()
