"""Two domains in one network: batches merged, one domain at a time, or a batch norm for each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import batchnorm

from .._domains import DomainNet, load_pair
from .._experiment import Experiment, Grid
from .._fit import final, fit, predictions
from .._trial import Trial
from ..data import Dataset
from ._perils_claims import CHARTS, QUESTIONS

__all__ = ["EXPERIMENT", "measure_together"]

PAIRS = 32  # a minibatch: as many images of each domain
LOOKS = 10
MEASURED = 1000  # training images of a domain that recalibration reads


def _recalibrated(net: DomainNet, data: Dataset) -> Tensor:
    """Outputs by the running statistics of each domain's own training images."""
    found = []
    for domain in range(2):
        own = data.x_train[:MEASURED, domain]
        report = batchnorm.recalibrate(net.net, own.split(100), progress=False)
        found.append(predictions(net, data)[:, domain])
        report.undo()

    return torch.stack(found, 1)


OUTPUTS: dict[str, dict[str, Callable[[DomainNet, Dataset], Tensor]]] = {
    "merged": {"merged": predictions},
    "shared": {"shared": predictions, "recalibrated": _recalibrated},
    "separate": {"separate": predictions},
}
"""By way of training: for each arm what the network says about the test part."""


def measure_together(trials: Sequence[Trial], data: Dataset) -> list[dict[str, Any]]:
    """Train a network in every way that the arms need."""
    arms = {trial.arm for trial in trials}
    found: dict[str, dict[str, Any]] = {}
    for way, outputs in OUTPUTS.items():
        if arms & outputs.keys():
            found |= _trained(way, trials[0], data)

    return [found[trial.arm] for trial in trials]


def _trained(way: str, trial: Trial, data: Dataset) -> dict[str, dict[str, Any]]:
    """Train one network and look at it on the way; numbers by arm."""
    net = DomainNet(way, seed=trial.seed, classes=data.classes)
    every = trial["steps"] // LOOKS
    looks: dict[str, list[Tensor]] = {arm: [] for arm in OUTPUTS[way]}

    def look(step: int) -> None:
        if step % every == 0:
            for arm, outputs in OUTPUTS[way].items():
                looks[arm].append(_accuracies(outputs(net, data), data))

    losses = fit(
        net, data, lr=trial["lr"], steps=trial["steps"], seed=trial.seed, batch_size=PAIRS,
        momentum=0.9, schedule=lambda done: 1 - done, loss=_loss, after=look,
    )  # fmt: skip
    shared = {
        "train_mode": float(_accuracies(_by_batch(net, data), data).mean()),
        "loss": final(losses, trial["steps"]),
    }

    return {
        arm: _numbers(_accuracies(outputs(net, data), data))
        | shared
        | {
            "step": [every * count for count, _ in enumerate(looks[arm], 1)],
            "curve": [float(found.mean()) for found in looks[arm]],
        }
        for arm, outputs in OUTPUTS[way].items()
    }


def _numbers(found: Tensor) -> dict[str, Any]:
    first, second = found.tolist()

    return {"accuracy": (first + second) / 2, "first": first, "second": second}


def _loss(outputs: Tensor, classes: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), classes.flatten())


def _accuracies(outputs: Tensor, data: Dataset) -> Tensor:
    """Of both domains."""
    return (outputs.argmax(2) == data.y_test).double().mean(0)


@torch.no_grad()
def _by_batch(net: DomainNet, data: Dataset) -> Tensor:
    """Outputs in training mode, from batches made as in training."""
    with batchnorm.skip_updates(net):
        return torch.cat([net(x) for x in data.x_test.split(PAIRS)])


def _grid(seeds: int, steps: int, seconds: float, *pairs: str) -> Grid:
    return Grid(seeds, pairs, {"lr": (0.2,), "steps": (steps,)}, seconds)


EXPERIMENT = Experiment(
    name="perils",
    title="Two domains in one network",
    about="A small convolutional network learns the classes of two domains at once, from 32 images "
    "of each per step and the same starting weights, by SGD with momentum 0.9 and a rate that "
    "falls to zero. Merged batches are normalised by 64 images, others by 32. The domains share no "
    "image: the even ones of the first are taken and the odd ones of the second. Grey images "
    "become three equal channels; both have the same width and height. The recalibrated network is "
    "the one trained on one domain at a time, its running statistics measured anew on 1,000 "
    "training images of the domain that is tested. Where there are several rates, each arm has the "
    "one with its lowest training loss.",
    arms={
        "merged": "merged batches",
        "shared": "one domain at a time",
        "separate": "a batch norm for each domain",
        "recalibrated": "recalibrated for each domain",
    },
    budgets={
        "smoke": _grid(2, 20, 3, "digits+digits_m"),
        "default": replace(
            _grid(5, 400, 45, "digits+digits_m", "mnist+mnist_m", "mnist+svhn"),
            by_dataset={"digits+digits_m": {"steps": (200,)}},
        ),
        "full": Grid(
            10,
            ("digits+digits_m", "mnist+mnist_m", "mnist+svhn"),
            {"lr": (0.05, 0.2, 0.5), "steps": (10_000,)},
            12_000,
        ),
    },
    measure_together=measure_together,
    together=("arm",),
    load=load_pair,
    measured={
        "accuracy": "test accuracy in eval mode, mean of both domains",
        "first": "test accuracy in eval mode, first domain",
        "second": "test accuracy in eval mode, second domain",
        "train_mode": "test accuracy in training mode, batches made as in training, mean of both",
        "loss": "training loss (nats), mean of the last tenth of the steps",
        "step": "when the network was looked at",
        "curve": "test accuracy in eval mode then, mean of both domains",
    },
    questions=QUESTIONS,
    charts=CHARTS,
)
