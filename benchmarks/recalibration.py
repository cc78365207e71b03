"""Recalibration against torch's ``update_bn``: time, and error of the statistics and the loss.

A small residual network is trained on scikit-learn's digits; then its statistics are measured again
from shuffled batches, from batches sorted by class, and from ragged ones. Run it with
``python -m benchmarks.recalibration``; it writes ``benchmarks/results/recalibration.json``.
"""

import copy
import json
import time
from pathlib import Path
from statistics import median

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from batchnorm.lab.models import ResNet
from batchnorm.stats import recalibrate, train_eval_gap
from benchmarks.machine import header

RESULT = Path(__file__).parent / "results" / "recalibration.json"
ROUNDS = 5
BATCH = 64


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images ``(N, 1, 8, 8)`` and labels, for training and for tests."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:1400]], y[order[:1400]], x[order[1400:]], y[order[1400:]]


def trained(x: Tensor, y: Tensor) -> nn.Module:
    model = ResNet(nn.BatchNorm2d, seed=0, depths=(1, 1), width=16, channels=1)
    opt = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    g = torch.Generator().manual_seed(0)
    for _ in range(6):
        for rows in torch.randperm(len(x), generator=g).split(BATCH):
            opt.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            opt.step()
    return model


def orders(y: Tensor) -> dict[str, list[Tensor]]:
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    ragged = [*shuffled[:-3].split(BATCH), shuffled[-3:]]
    return {
        "shuffled": list(shuffled.split(BATCH)),
        "ragged (last batch of 3)": ragged,
        "sorted by class": list(y.argsort(stable=True).split(BATCH)),
    }


METHODS = {
    "as trained": lambda model, batches: None,
    "update_bn": lambda model, batches: update_bn(batches, model),
    "recalibrate, together": lambda model, batches: recalibrate(model, batches),
    "recalibrate, layerwise": lambda model, batches: recalibrate(model, batches, order="layerwise"),
    "recalibrate, tolerance 0.2": lambda model, batches: recalibrate(model, batches, tolerance=0.2),
}


@torch.no_grad()
def judge(model: nn.Module, x: Tensor, xt: Tensor, yt: Tensor) -> dict[str, float]:
    """Error of the running variances for what the layers see at inference, and the test loss."""
    model.eval()
    inputs: dict[str, Tensor] = {}
    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [
        m.register_forward_pre_hook(lambda m, a, n=n: inputs.__setitem__(n, a[0].double()))
        for n, m in norms
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    off = [
        (m.running_var.double() / inputs[n].var((0, 2, 3)) - 1).abs().max().item() for n, m in norms
    ]
    logits = model(xt)
    return {
        "variance_off": max(off),
        "loss": cross_entropy(logits, yt).item(),
        "accuracy": (logits.argmax(1) == yt).double().mean().item(),
    }


def run() -> list[dict[str, object]]:
    x, y, xt, yt = data()
    model = trained(x, y)
    rows: list[dict[str, object]] = []
    for order, parts in orders(y).items():
        batches = [x[part] for part in parts]
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        for _ in range(ROUNDS):
            done = {}
            for name, method in METHODS.items():
                done[name] = copy.deepcopy(model)
                started = time.perf_counter()
                method(done[name], batches)
                seconds[name].append(time.perf_counter() - started)
        for name, result in done.items():
            rows.append(
                {
                    "order": order,
                    "method": name,
                    "seconds": seconds[name],
                    **judge(result, x, xt, yt),
                }
            )
    gap = train_eval_gap(model, x[:256])
    print(gap)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    rows = run()
    RESULT.write_text(json.dumps({"header": header(threads=1), "rows": rows}, indent=1) + "\n")
    base = {row["order"]: median(row["seconds"]) for row in rows if row["method"] == "update_bn"}
    print("order | method | time / update_bn | worst variance off by | test loss | accuracy")
    for row in rows:
        ratio = median(row["seconds"]) / base[row["order"]]
        print(
            f"{row['order']} | {row['method']} | {ratio:.2f} | {row['variance_off']:.1%} | "
            f"{row['loss']:.4f} | {row['accuracy']:.1%}"
        )


if __name__ == "__main__":
    main()
