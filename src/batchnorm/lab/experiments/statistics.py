"""Which mean and variance to normalise by at test time, and how long to train before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._averages import Averages
from .._experiment import Experiment, Grid
from .._fit import fit, predictions
from .._small_images import load_small
from .._trial import Trial
from ..data import Dataset
from ..models import ConvNet
from ._statistics_claims import CHARTS, QUESTIONS

__all__ = ["EXPERIMENT", "measure_together"]

BATCH = 32
STARTED = 32  # steps after which 0.9³², 3 %, of the statistics are the 0 and 1 of the start
MEASURED = 1000  # training images that statistics are measured on anew
SIZES = (1, 4, 16, 64, 256)  # of test batches
MOMENTA = {"usual": 0.1, "slow": 0.01, "slowest": 0.001, "cumulative": None}
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "falling": lambda done: 1 - done,
}


def measure_together(trials: Sequence[Trial], data: Dataset) -> list[dict[str, Any]]:
    """Train one network and test it by the statistics of every arm."""
    trial = trials[0]
    net = ConvNet(
        batchnorm.BatchNorm2d, seed=trial.seed, channels=data.shape[0], classes=data.classes
    )
    averages = Averages(net, MOMENTA)
    curves: dict[str, dict[int, float]] = {trial.arm: {} for trial in trials}

    def look(step: int) -> None:
        averages.update(step)
        if step & (step - 1) == 0:  # a power of two
            for arm, curve in curves.items():
                curve[step] = _accuracy(_outputs(arm, net, averages, data), data)

    fit(
        net, data, lr=trial["lr"], steps=trial["steps"], seed=trial.seed, batch_size=BATCH,
        momentum=0.9, schedule=SCHEDULES[trial["rate"]], after=look,
    )  # fmt: skip

    return [
        _numbers(arm, net, averages, data)
        | {"step": list(curve), "curve": list(curve.values()), "mean": _started(curve)}
        for arm, curve in curves.items()
    ]


def _started(curve: dict[int, float]) -> float:
    """Mean of the looks that owe nothing to the values that statistics start with."""
    late = [found for step, found in curve.items() if step >= STARTED]

    return fmean(late or curve.values())


def _numbers(arm: str, net: nn.Module, averages: Averages, data: Dataset) -> dict[str, Any]:
    """Of the trained network."""
    outputs = _outputs(arm, net, averages, data)
    sizes = {
        size: _outputs(arm, net, averages, data, size) if arm == "batch" else outputs
        for size in SIZES
    }

    return {
        "accuracy": _accuracy(outputs, data),
        "loss": float(functional.cross_entropy(outputs, data.y_test)),
        "test_batch": list(sizes),
        "by_test_batch": [_accuracy(found, data) for found in sizes.values()],
    }


def _outputs(
    arm: str, net: nn.Module, averages: Averages, data: Dataset, size: int = SIZES[-1]
) -> Tensor:
    """For the test part, by the statistics of `arm`; `size` matters to those of the test batch."""
    if arm == "batch":
        with torch.no_grad(), batchnorm.skip_updates(net):
            return torch.cat([net(x) for x in data.x_test.split(size)])
    if arm == "recalibrated":
        batchnorm.recalibrate(net, data.x_train[:MEASURED].split(100), progress=False)
    else:
        averages.use(arm)

    return predictions(net, data)


def _accuracy(outputs: Tensor, data: Dataset) -> float:
    return float((outputs.argmax(1) == data.y_test).double().mean())


def _grid(seeds: int, steps: int, seconds: float, *datasets: str) -> Grid:
    settings = {"lr": (0.1,), "rate": ("constant", "falling"), "steps": (steps,)}

    return Grid(seeds, datasets, settings, seconds)


EXPERIMENT = Experiment(
    name="statistics",
    title="Statistics at test time",
    about="A small convolutional network with batch norm learns from batches of 32, by SGD with "
    "momentum 0.9. Running statistics have no part in training: the same weights are tested with "
    "each kind of them, after 1, 2, 4, 8, ... steps, and at the end in test batches of 1 to 256. "
    "The rate is constant, or falls to zero. What is measured anew is measured on 1,000 training "
    "images; the average of all batches is what a layer with momentum=None keeps.",
    arms={
        "usual": "moving average, momentum 0.1",
        "slow": "moving average, momentum 0.01",
        "slowest": "moving average, momentum 0.001",
        "cumulative": "average of all batches",
        "recalibrated": "measured anew",
        "batch": "of the test batch",
    },
    budgets={
        "smoke": _grid(2, 16, 3, "digits"),
        "default": replace(
            _grid(5, 512, 26, "digits", "mnist"), by_dataset={"digits": {"steps": (256,)}}
        ),
        "full": _grid(10, 16_384, 7200, "digits", "mnist", "fashion_mnist", "cifar10"),
    },
    measure_together=measure_together,
    together=("arm",),
    load=load_small,
    measured={
        "accuracy": "test accuracy at the end; of the test batch: in batches of 256",
        "loss": "test loss (nats) then",
        "mean": "mean of the accuracies after 32 steps and more",
        "step": "steps after which the network was tested",
        "curve": "test accuracy then",
        "test_batch": "images in a test batch",
        "by_test_batch": "test accuracy at the end by that size; only the test batch’s own "
        "statistics depend on it",
    },
    questions=QUESTIONS,
    charts=CHARTS,
)
