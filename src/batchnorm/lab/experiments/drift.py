"""Images that are corrupted at test time, and batch norm adapted to them without labels."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor, nn

import batchnorm
from batchnorm.stats import Method, ResetGuard

from .._corruptions import CORRUPTIONS, SEVERITIES, corrupt
from .._experiment import Experiment, Grid
from .._fit import accuracy, fit
from .._small_images import load_small
from .._trial import Trial, Value
from ..data import Dataset
from ..models import ConvNet
from ._drift_claims import CHARTS, QUESTIONS

__all__ = ["EXPERIMENT", "measure_together"]

BATCH = 32
EXAMPLES = (4, 8, 16, 32, 64, 256)  # without labels, to adapt to
MEDIUM = 2  # the severity at which their number varies
PRIOR = 16  # examples that the old statistics are worth, where they are mixed


def measure_together(trials: Sequence[Trial], data: Dataset) -> list[dict[str, Any]]:
    """Train one network on clean images, and adapt it as every trial says."""
    trial = trials[0]
    net = ConvNet(
        batchnorm.BatchNorm2d, seed=trial.seed, channels=data.shape[0], classes=data.classes
    )
    fit(
        net, data, lr=trial["lr"], steps=trial["steps"], seed=trial.seed, batch_size=BATCH,
        momentum=0.9, schedule=lambda done: 1 - done,
    )  # fmt: skip

    return [_numbers(trial, net, data) for trial in trials]


def _numbers(trial: Trial, net: nn.Module, data: Dataset) -> dict[str, Any]:
    """Accuracies by severity, and by number of examples."""
    most = EXAMPLES[-1]
    by_severity = [_adapted(trial, net, data, severity, most) for severity in SEVERITIES]
    by_examples = [_adapted(trial, net, data, MEDIUM, examples) for examples in EXAMPLES[:-1]]

    return {
        "clean": by_severity[0],
        "accuracy": fmean(by_severity[1:]),
        "severity": list(SEVERITIES),
        "by_severity": by_severity,
        "examples": list(EXAMPLES),
        "by_examples": [*by_examples, by_severity[MEDIUM]],
    }


def _adapted(trial: Trial, net: nn.Module, data: Dataset, severity: int, examples: int) -> float:
    """Accuracy on corrupted images, by the network adapted to others of their kind."""
    seen, held = _halves(data, trial["corruption"], severity, trial.seed)
    if trial.arm == "source":
        return accuracy(net, held)
    report = batchnorm.adapt(
        net, seen[:examples].split(64), cast(Method, trial.arm), prior=PRIOR,
        epochs=trial["passes"], guard=ResetGuard(), progress=False,
    )  # fmt: skip
    found = accuracy(net, held)
    report.undo()

    return found


def _halves(data: Dataset, corruption: str, severity: int, seed: int) -> tuple[Tensor, Dataset]:
    """Corrupted images of one half of the test part to adapt to, and the other half to test."""
    x = corrupt(data.x_test, corruption, severity, seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    seen, held = order.chunk(2)

    return x[seen], replace(data, x_test=x[held], y_test=data.y_test[held])


def _grid(seeds: int, steps: int, passes: int, seconds: float, *datasets: str) -> Grid:
    settings: dict[str, tuple[Value, ...]] = {
        "lr": (0.1,),
        "corruption": tuple(CORRUPTIONS),
        "steps": (steps,),
        "passes": (passes,),
    }

    return Grid(seeds, datasets, settings, seconds)


EXPERIMENT = Experiment(
    name="drift",
    title="Images that drift at test time",
    about="A small convolutional network with batch norm learns clean images, by SGD with momentum "
    "0.9 and a rate that falls to zero. Then images come corrupted: noisy, blurred, pale, "
    "overexposed, or with a black square. Half of the test part is there without labels, to adapt "
    "to; the other half is tested, corrupted in the same way. Where statistics are mixed the old "
    "ones count as 16 images. TENT learns weight and bias too, in several passes over the "
    "unlabelled images in batches of 64, by Adam at 0.001, with a guard against collapse.",
    arms={
        "source": "training’s statistics",
        "adabn": "new statistics (AdaBN)",
        "mix": "old and new statistics mixed",
        "tent": "new statistics and TENT",
    },
    budgets={
        "smoke": Grid(
            2,
            ("digits",),
            {"lr": (0.1,), "corruption": ("contrast", "occlusion"), "steps": (60,), "passes": (1,)},
            2,
        ),
        "default": replace(
            _grid(5, 300, 5, 24, "digits", "mnist"), by_dataset={"digits": {"steps": (150,)}}
        ),
        "full": _grid(10, 5000, 20, 3600, "digits", "mnist", "fashion_mnist", "cifar10"),
    },
    measure_together=measure_together,
    together=("arm", "corruption"),
    load=load_small,
    measured={
        "clean": "accuracy on clean images, after adapting to 256 clean ones",
        "accuracy": "accuracy on corrupted images, mean of the three severities",
        "severity": "of the corruption; 0 is none",
        "by_severity": "accuracy at that severity, adapted to 256 images",
        "examples": "unlabelled images that were adapted to",
        "by_examples": "accuracy after so many, at severity 2",
    },
    questions=QUESTIONS,
    charts=CHARTS,
)
