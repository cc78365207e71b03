"""What ``bn.watch`` costs a training: time per step with it and without, in alternating rounds.

Each side trains its own copy of a network from the same weights on the same batches; first the
weights are compared, bit by bit. A round is a whole interval of steps, one of them recorded, so
that nothing of the cost is left out. Seconds are of the processor, which other programs on the
machine do not lengthen much. Run it with ``python -m benchmarks.watch``; it writes
``benchmarks/results/watch.json``.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import batchnorm as bn
from batchnorm.lab.models import ResNet
from benchmarks.machine import header

__all__ = ["NETS", "Net", "main", "overhead"]

RESULT = Path(__file__).parent / "results" / "watch.json"
EVERY = 500
BUDGET = 0.03


@dataclass(frozen=True)
class Net:
    """A network and the shape of its input."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int = 10


def sigmoid_net() -> nn.Module:
    """Figure 1 of the batch norm paper: three hidden layers of 100."""
    layers: list[nn.Module] = []
    for width in (784, 100, 100):
        layers += [nn.Linear(width, 100, bias=False), bn.BatchNorm1d(100), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(100, 10))


NETS = (
    Net("sigmoid net, (60, 784)", sigmoid_net, (60, 784)),
    Net(
        "ResNet of 2 blocks, (16, 3, 16, 16)",
        lambda: ResNet(bn.BatchNorm2d, seed=0, depths=(1, 1), width=16),
        (16, 3, 16, 16),
    ),
    Net(
        "ResNet of 8 blocks, (16, 3, 16, 16)",
        lambda: ResNet(bn.BatchNorm2d, seed=0, depths=(2, 2, 2, 2), width=16),
        (16, 3, 16, 16),
    ),
)


class Side:
    """One training that goes on from round to round."""

    def __init__(self, model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.model, self._batches = copy.deepcopy(model), batches
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)
        self._at = 0

    def train(self, steps: int) -> float:
        """Seconds for so many steps."""
        start = time.process_time()
        for _ in range(steps):
            x, y = self._batches[self._at % len(self._batches)]
            self._at += 1
            self.optimizer.zero_grad()
            cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
        return time.process_time() - start


@contextmanager
def sides(
    net: Net, every: int, watchers: dict[str, Callable[[Side], AbstractContextManager[Any]]]
) -> Iterator[dict[str, Side]]:
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = net.make()
    batches = [
        (
            torch.randn(net.shape, generator=g),
            torch.randint(net.classes, net.shape[:1], generator=g),
        )
        for _ in range(8)
    ]
    made = {name: Side(model, batches) for name in ("alone", *watchers)}
    with ExitStack() as stack:
        for name, watcher in watchers.items():
            stack.enter_context(watcher(made[name]))
        yield made


def overhead(net: Net, every: int, rounds: int) -> dict[str, object]:
    """Processor seconds per round of both sides, what each round costs, and whether bits agree."""
    with tempfile.TemporaryDirectory() as folder:

        def watcher(side: Side) -> AbstractContextManager[Any]:
            return bn.watch(
                side.model,
                to=Path(folder) / "run.jsonl",
                every=every,
                optimizer=side.optimizer,
                on_alert=None,
            )

        with sides(net, every, {"watched": watcher}) as made:
            for side in made.values():
                side.train(every)  # warm
            seconds: dict[str, list[float]] = {name: [] for name in made}
            for at in range(rounds):
                order = list(made) if at % 2 else list(reversed(made))
                for name in order:
                    seconds[name].append(made[name].train(every))
            same = all(
                torch.equal(a, b)
                for a, b in zip(
                    made["alone"].model.state_dict().values(),
                    made["watched"].model.state_dict().values(),
                    strict=True,
                )
            )
    ratios = [w / a - 1 for w, a in zip(seconds["watched"], seconds["alone"], strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {
        "net": net.name,
        "every": every,
        "same_bits": same,
        "step_ms": median(seconds["alone"]) / every * 1e3,
        "overhead": median(ratios),
        "quartiles": [low, high],
        "seconds": seconds,
    }


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when the weights differ or the median is over the budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--net", default="", help="only networks whose name has this in it")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = []
    print("network | step | overhead (quartiles) | bits")
    for net in NETS:
        if options.net not in net.name:
            continue
        row = overhead(net, options.every, options.rounds)
        low, high = row["quartiles"]
        print(
            f"{net.name} | {row['step_ms']:.2f} ms | {row['overhead']:.2%} "
            f"({low:.2%} to {high:.2%}) | {'same' if row['same_bits'] else 'DIFFERENT'}",
            flush=True,
        )
        rows.append(row)
    text = json.dumps({"header": header(threads=options.threads), "rows": rows}, indent=1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")

    return int(any(not row["same_bits"] or row["overhead"] > BUDGET for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
