"""What ``bn.watch`` costs a training: processor time of its steps, recorded ones and others.

Two copies of a network train on the same batches from the same weights, one of them watched, by
turns step by step, so that both meet the same machine. What a step costs more is the median of the
differences of such pairs, for recorded steps and for the others apart; the overhead at an interval
is worked out from both. At the end the weights are compared, bit by bit. Run it with
``python -m benchmarks.watch``; it writes ``benchmarks/results/watch.json``.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
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
SAMPLED = 20  # steps between recorded ones while this measures
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
    """One training that goes on from step to step."""

    def __init__(self, model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.model, self._batches = copy.deepcopy(model), batches
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)
        self._at = 0

    def step(self) -> float:
        """Processor seconds of one step."""
        x, y = self._batches[self._at % len(self._batches)]
        self._at += 1
        start = time.process_time()
        self.optimizer.zero_grad()
        cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        return time.process_time() - start


def sides(net: Net) -> tuple[Side, Side]:
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = net.make()
    batches = []
    for _ in range(8):
        x = torch.randn(net.shape, generator=g)
        batches.append((x, torch.randint(net.classes, net.shape[:1], generator=g)))
    return Side(model, batches), Side(model, batches)


def overhead(net: Net, every: int, records: int) -> dict[str, Any]:
    """Seconds of a step and what watching adds to it, and whether the bits agree."""
    alone, watched = sides(net)
    with (
        tempfile.TemporaryDirectory() as folder,
        bn.watch(
            watched.model,
            to=Path(folder) / "run.jsonl",
            every=SAMPLED,
            optimizer=watched.optimizer,
            on_alert=None,
        ),
    ):
        pairs = []
        for at in range(SAMPLED * (records + 1)):
            turn = (alone, watched) if at % 2 else (watched, alone)
            seconds = {id(side): side.step() for side in turn}
            pairs.append((seconds[id(alone)], seconds[id(watched)]))
    own, other = alone.model.state_dict(), watched.model.state_dict()
    pairs = pairs[SAMPLED:]  # the first interval warms up
    step = median(a for a, _ in pairs)
    recorded = [b - a for a, b in pairs[::SAMPLED]]
    between = median(b - a for at, (a, b) in enumerate(pairs) if at % SAMPLED)
    shares = [((every - 1) * between + extra) / every / step for extra in recorded]
    low, _, high = quantiles(shares, n=4)
    return {
        "net": net.name,
        "every": every,
        "same_bits": all(torch.equal(own[name], other[name]) for name in own),
        "step_ms": step * 1e3,
        "recorded_ms": median(recorded) * 1e3,
        "between_us": between * 1e6,
        "overhead": median(shares),
        "quartiles": [low, high],
        "seconds": pairs,
    }


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when the weights differ or the median is over the budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--records", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--net", default="", help="only networks whose name has this in it")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = []
    print(f"network | step | recorded step | others | overhead at {options.every} | bits")
    for net in NETS:
        if options.net not in net.name:
            continue
        row = overhead(net, options.every, options.records)
        low, high = row["quartiles"]
        print(
            f"{net.name} | {row['step_ms']:.2f} ms | +{row['recorded_ms']:.1f} ms | "
            f"{row['between_us']:+.0f} µs | {row['overhead']:.2%} "
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
