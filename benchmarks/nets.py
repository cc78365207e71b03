"""One training step of a ResNet-18 and a MobileNetV2: time and peak memory, by torch and by us."""

import math
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchnorm
from benchmarks.context import Context
from benchmarks.footprint import peak_growth
from benchmarks.models import NETS, NORMS, build
from benchmarks.rows import Row, guarded, timed_row, wrong_row
from benchmarks.runner import Plan, Side, measure
from benchmarks.worker import main, run_worker

__all__ = ["NAME", "rows"]

NAME = "nets"
LAYOUTS = ("contiguous", "channels_last")
PAGES = ("default", "keep_pages")
_PLAN = Plan(rounds=7, least=4, max_rounds=14, seconds=9.0, warm_up=1)
_QUICK = Plan(rounds=3, least=2, max_rounds=4, seconds=4.0, warm_up=1)


def rows(context: Context) -> list[tuple[str, Callable[[], Row]]]:
    """Each net in both layouts, with glibc's default and with pages kept."""
    if context.quick:
        return [_entry("mobilenet_v2", "channels_last", "default", context)]
    return [
        _entry(net, layout, pages, context)
        for net in NETS for layout in LAYOUTS for pages in PAGES
    ]  # fmt: skip


def _entry(net: str, layout: str, pages: str, context: Context):
    facts = {"net": net, "layout": layout, "pages": pages}
    batch, size = (8, 64) if context.quick else (32, 112)
    task = {**facts, "batch": batch, "size": size, "threads": context.threads,
            "quick": context.quick}  # fmt: skip
    key = f"{net} {layout} {pages}"
    return key, lambda: guarded(key, facts, lambda: _row(key, task, context))


def _row(key: str, task: Row, context: Context) -> Row:
    context.tick()
    row = run_worker("benchmarks.nets", {**task, "key": key, "measure": "time"})
    if row["status"] != "ok":
        return row
    row["peak_mib"] = {}
    for norm in ("eager", "ours"):
        context.tick()
        found = run_worker("benchmarks.nets", {**task, "measure": "memory", "norm": norm})
        row["peak_mib"][norm] = found["peak_mib"]
    return row


class Training:
    """A net, its optimizer and one fixed batch."""

    def __init__(self, task: Row, norm: str):
        torch.manual_seed(0)
        self.memory_format = (
            torch.channels_last if task["layout"] == "channels_last" else torch.contiguous_format
        )
        self.net = build(task["net"], norm).to(memory_format=self.memory_format)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9)
        batch, size = task["batch"], task["size"]
        images = torch.randn(batch, 3, size, size)
        self.images = images.contiguous(memory_format=self.memory_format)
        self.labels = torch.arange(batch) % 100

    def step(self) -> tuple[int, int, int]:
        """Nanoseconds of forward (with the loss), backward and update."""
        clock = time.perf_counter_ns
        self.optimizer.zero_grad(set_to_none=True)
        start = clock()
        loss = F.cross_entropy(self.net(self.images), self.labels)
        forward = clock()
        loss.backward()
        backward = clock()
        self.optimizer.step()
        return forward - start, backward - forward, clock() - backward


def work(task: Row) -> Row:
    """The worker's half: time or peak memory of one row."""
    torch.set_num_threads(task["threads"])
    kept = batchnorm.keep_pages() if task["pages"] == "keep_pages" else None
    if kept is False:
        raise RuntimeError("keep_pages: the allocator must be glibc's. Got another. Skip the row.")
    if task["measure"] == "memory":
        return {"peak_mib": _peak(Training(task, task["norm"]))}
    facts = {name: task[name] for name in ("net", "layout", "pages", "batch", "size")}
    errors, reason = check_wiring(task["net"])
    facts["errors"] = errors
    if reason:
        return wrong_row(task["key"], facts, reason)
    sides = [
        Side(norm, Training(task, norm).step, ("forward", "backward", "update")) for norm in NORMS
    ]
    return timed_row(task["key"], facts, measure(sides, _QUICK if task["quick"] else _PLAN))


def _peak(training: Training) -> float | None:
    """MiB above what net and batch occupy, over three steps."""
    return peak_growth(lambda: [training.step() for _ in range(3)])


def check_wiring(net: str, batch: int = 4, size: int = 64) -> tuple[dict[str, object], str]:
    """Both nets from one state_dict: equal in float64, and near it in float32.

    In float64 nothing but wiring can tell them apart. In float32 a deep net amplifies roundings,
    and both are right; ours may be four times as far from float64 as torch's.
    """
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, size, size), torch.arange(batch)
    nets = {norm: build(net, norm) for norm in ("eager", "ours")}
    nets["ours"].load_state_dict(nets["eager"].state_dict())
    narrow = {norm: _gradients(model, images, labels) for norm, model in nets.items()}
    wide = {
        norm: _gradients(model.double(), images.double(), labels) for norm, model in nets.items()
    }
    double = _distance(wide["ours"], wide["eager"])
    single = {norm: _distance(found, wide["eager"]) for norm, found in narrow.items()}
    errors = {"float64": double, "float32": single}
    allowed = math.sqrt(torch.finfo(torch.float64).eps)
    if not double <= allowed:
        return errors, f"float64 gradients differ: error {double:.1e}, allowed {allowed:.1e}"
    allowed = 4 * single["eager"] + math.sqrt(torch.finfo(torch.float32).eps)
    if not single["ours"] <= allowed:
        return errors, f"float32 gradients: error {single['ours']:.1e}, allowed {allowed:.1e}"
    return errors, ""


def _gradients(net: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    loss = F.cross_entropy(net(images), labels)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def _distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Relative distance of two gradients taken as one long vector.

    Not parameter by parameter: the bias of a batch norm that goes straight into a 1x1 convolution
    and another batch norm has no gradient at all, and what is computed for it is rounding.
    """
    away = sum((found[name].double() - right).square().sum() for name, right in expected.items())
    size = sum(right.square().sum() for right in expected.values())
    return float((away / size).sqrt())


if __name__ == "__main__":
    main(work)
