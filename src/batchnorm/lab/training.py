"""One training run, the same bits whenever it runs again on the same machine."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ._fit import final, fit
from .data import Dataset, load
from .models import ARMS, SigmoidNet

__all__ = ["PERCENTILES", "TrialConfig", "TrialResult", "evaluation_steps", "load_flat", "train"]

PERCENTILES = (15, 50, 85)


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides the outcome of a run.

    Args:
        arm: key of :data:`batchnorm.lab.models.ARMS`.
        seed: of the starting weights and of the order of examples.
        lr: learning rate of plain SGD.
        steps: minibatches to train on.
        batch_size: examples per minibatch.
        hidden: width of each of the three hidden layers.
        weight_std: standard deviation of the starting weights.
        evaluations: how often to test at even distances; 1 means at the end only.
        early_losses: how many of the first training losses to keep.
        nudged: move every starting weight to the next float32, to see how a rounding grows.
    """

    arm: str
    seed: int
    lr: float
    steps: int
    batch_size: int = 60
    hidden: int = 100
    weight_std: float = 0.1
    evaluations: int = 25
    early_losses: int = 200
    nudged: bool = False


@dataclass(frozen=True)
class TrialResult:
    """What a run recorded.

    Args:
        at: evaluated steps.
        accuracies: test accuracy after each of `at`, running statistics in use.
        percentiles: after each of `at`, the 15/50/85th percentile over the test set of what enters
            the first sigmoid of the last hidden layer.
        shift: mean distance of the median from where it ends, in units of the final 15-85 width;
            median over the layer's units.
        stretch: mean distance of the 15-85 width from its final value, in doublings; median over
            the layer's units.
        losses: the first training losses (nats), one per step.
        loss: training loss (nats), mean over the last tenth of the steps; inf if it was not finite
            at any step.
        step_ms: processor time (ms) per step, evaluations included.
    """

    at: list[int]
    accuracies: list[float]
    percentiles: list[list[float]]
    shift: float
    stretch: float
    losses: list[float]
    loss: float
    step_ms: float


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Steps to test at: evenly spaced to the end, and ten more on the way to the first of them.

    With ``evaluations=1`` only the last step.

    Example:
        >>> evaluation_steps(600, 3)
        [20, 25, 32, 40, 50, 63, 80, 100, 126, 159, 200, 400, 600]
    """
    even = even_steps(steps, evaluations)
    if evaluations == 1:
        return even
    early = np.geomspace(max(1, even[0] / 10), even[0], 11).round().astype(int).tolist()
    return sorted({*early, *even})


def even_steps(steps: int, evaluations: int) -> list[int]:
    """The evenly spaced part of :func:`evaluation_steps`."""
    return sorted({max(1, round(steps * i / evaluations)) for i in range(1, evaluations + 1)})


def load_flat(name: str, folder: Path | None = None) -> Dataset:
    """Images as vectors; MNIST is made binary, as in the paper."""
    return load(name, folder, flat=True, binary=name == "mnist")


def train(config: TrialConfig, data: Dataset) -> TrialResult:
    """Train one network by SGD on cross entropy and record how it went.

    Each epoch visits the examples in a new order; an incomplete last batch is dropped. A run whose
    loss is not finite stops and keeps its last accuracy for the evaluations that are left.

    Source: Ioffe & Szegedy 2015, section 4.1 (arXiv:1502.03167).
    """
    started = time.process_time()
    net = _network(config, data)
    at = set(evaluation_steps(config.steps, config.evaluations))
    records: dict[int, tuple[float, np.ndarray]] = {}

    def look(step: int) -> None:
        if step in at:
            records[step] = _evaluate(net, data)

    losses = fit(
        net,
        data,
        lr=config.lr,
        steps=config.steps,
        seed=config.seed,
        batch_size=config.batch_size,
        after=look,
    )
    step_ms = 1e3 * (time.process_time() - started) / len(losses)

    return _result(config, losses, records, step_ms)


def _network(config: TrialConfig, data: Dataset) -> SigmoidNet:
    net = SigmoidNet(
        data.features,
        data.classes,
        ARMS[config.arm].norm,
        seed=config.seed,
        hidden=config.hidden,
        weight_std=config.weight_std,
    )
    if config.nudged:
        with torch.no_grad():
            for linear in (*net.linears, net.head):
                linear.weight.copy_(torch.nextafter(linear.weight, torch.tensor(torch.inf)))
    return net


@torch.no_grad()
def _evaluate(net: nn.Module, data: Dataset) -> tuple[float, np.ndarray]:
    """Test accuracy, and percentiles ``(3, hidden)`` of the last hidden layer's input."""
    assert isinstance(net, SigmoidNet)
    net.eval()
    entering = net.last_input(data.x_test)
    right = net.output(entering).argmax(1) == data.y_test
    net.train()
    return float(right.double().mean()), np.percentile(entering.numpy(), PERCENTILES, axis=0)


def _result(
    config: TrialConfig,
    losses: list[float],
    records: dict[int, tuple[float, np.ndarray]],
    step_ms: float,
) -> TrialResult:
    finite = math.isfinite(losses[-1])
    steps = sorted(records)
    even = even_steps(config.steps, config.evaluations)
    units = [records[step][1] for step in even if step in records]
    shift, stretch = _movement(np.stack(units)) if finite else (math.inf, math.inf)
    return TrialResult(
        at=steps,
        accuracies=[records[step][0] for step in steps],
        percentiles=[records[step][1][:, 0].tolist() for step in steps],
        shift=shift,
        stretch=stretch,
        losses=losses[: config.early_losses],
        loss=final(losses, config.steps),
        step_ms=step_ms,
    )


def _movement(percentiles: np.ndarray) -> tuple[float, float]:
    """Shift and stretch (see :class:`TrialResult`) of ``(times, 3, units)`` percentiles."""
    low, median, high = percentiles.swapaxes(0, 1)
    width = np.maximum(high - low, np.finfo(np.float32).tiny)
    shift = np.abs(median - median[-1]).mean(0) / width[-1]
    stretch = np.abs(np.log2(width / width[-1])).mean(0)
    return float(np.median(shift)), float(np.median(stretch))
