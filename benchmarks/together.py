"""Many small networks: trained one by one, as one by batched products, and by ``torch.func.vmap``.

Processor time of a step of one network, on one thread, median of rounds taken by turns. Run it with
``python -m benchmarks.together``; it prints the table of ``docs/lab.md``.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import BatchNorm1d
from torch.nn.functional import cross_entropy

import batchnorm as bn
from batchnorm.lab._fit import fit
from batchnorm.lab._together import fit_together
from batchnorm.lab.data import Dataset, data_folder, is_there, load
from batchnorm.lab.models import Mlp

__all__ = ["main"]

STEPS, ROUNDS = 40, 5
COMPANIES = (1, 5, 20, 32)


def nets(data: Dataset, count: int, norm: object) -> list[Mlp]:
    return [Mlp(data.features, data.classes, norm, seed=seed) for seed in range(count)]


def one_by_one(data: Dataset, count: int) -> None:
    for net in nets(data, count, bn.BatchNorm1d):
        fit(net, data, lr=0.1, steps=STEPS, seed=0)


def together(data: Dataset, count: int) -> None:
    rates, seeds = [0.1] * count, [0] * count
    fit_together(nets(data, count, bn.BatchNorm1d), data, lrs=rates, seeds=seeds, steps=STEPS)


def mapped(data: Dataset, count: int) -> None:
    """The layer of torch, without running statistics: they cannot be written under vmap."""
    made = nets(data, count, lambda n: BatchNorm1d(n, track_running_stats=False))
    parameters, buffers = stack_module_state(made)

    def loss(p: object, b: object, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(made[0], (p, b), (x,)), y)

    slopes = vmap(grad(loss))
    for _ in range(STEPS):
        chosen = torch.randint(len(data.x_train), (count, 60))
        found = slopes(parameters, buffers, data.x_train[chosen], data.y_train[chosen])
        parameters = {name: (p - 0.1 * found[name]).detach() for name, p in parameters.items()}


def measure(run: Callable[[Dataset, int], None], data: Dataset, count: int) -> float:
    """Microseconds of processor time per step and network."""
    started = time.process_time()
    run(data, count)

    return 1e6 * (time.process_time() - started) / STEPS / count


def main() -> None:
    torch.set_num_threads(1)
    folder = data_folder(None)
    names = [name for name in ("digits", "mnist") if is_there(name, folder)]
    print("| data | networks | one by one | `fit_together` | `torch.func.vmap` |")
    print("|---|--:|--:|--:|--:|")
    for name in names:
        data = load(name, folder, flat=True, binary=name == "mnist")
        for count in COMPANIES:
            ways = (one_by_one, together, mapped)
            rounds = [[measure(way, data, count) for way in ways] for _ in range(ROUNDS + 1)][1:]
            cells = [f"{median(column):.0f} µs" for column in zip(*rounds, strict=True)]
            print(f"| {data.title} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
