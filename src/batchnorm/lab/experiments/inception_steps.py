"""The paper's table of steps: Inception with and without batch norm, at several rates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn
from torch.nn import functional

import batchnorm

from .._augment import relit
from .._experiment import Experiment, Grid
from .._fit import accuracy, final, fit
from .._trial import Trial, Value
from ..data import Dataset, load
from ..models import Inception
from ._inception_claims import ARMS, CHARTS, QUESTIONS

__all__ = ["EXPERIMENT", "measure"]

WIDTH = 1 / 8
MOMENTUM = 0.9
BATCH = 32
SMALL = "3a 3c 4a 4e 5a"
WHOLE = "3a 3b 3c 4a 4b 4c 4d 4e 5a 5b"


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained; the defaults are the paper's changes (section 4.2.1).

    Args:
        norm: batch norm before each activation.
        activation: after each convolution.
        rate: a multiple of Inception's.
        dropout: before the last layer.
        l2: weight decay.
        halvings: of the rate in the whole training.
        response: local response normalization.
        distortion: of brightness and contrast.
        fixed: the same images are a batch in every epoch.
    """

    norm: bool = True
    activation: Callable[[], nn.Module] = nn.ReLU
    rate: float = 5.0
    dropout: bool = False
    l2: float = 1e-4
    halvings: float = 6.0
    response: bool = False
    distortion: float = 0.1
    fixed: bool = False


INCEPTION = Recipe(
    norm=False,
    rate=1.0,
    dropout=True,
    l2=5e-4,
    halvings=1.0,
    response=True,
    distortion=0.2,
    fixed=True,
)
CHANGED = Recipe()
RECIPES = {
    "inception": INCEPTION,
    "baseline": replace(INCEPTION, norm=True),
    "x5": CHANGED,
    "x30": replace(CHANGED, rate=30.0),
    "x5-sigmoid": replace(CHANGED, activation=nn.Sigmoid),
    "inception-x5": replace(INCEPTION, rate=5.0),
    "inception-sigmoid": replace(INCEPTION, activation=nn.Sigmoid),
}
UNDONE = ("rate", "dropout", "l2", "halvings", "response", "distortion", "fixed")


def measure(trial: Trial, data: Dataset) -> dict[str, Any]:
    """Train one network and test it on the way."""
    recipe = RECIPES[trial.arm]
    if trial["undone"] != "nothing":
        recipe = replace(recipe, **{trial["undone"]: getattr(INCEPTION, trial["undone"])})
    data = _pooled(data, trial["size"])
    net = Inception(
        batchnorm.BatchNorm2d if recipe.norm else None,
        seed=trial.seed,
        width=WIDTH,
        small=True,
        channels=data.shape[0],
        classes=data.classes,
        activation=recipe.activation,
        modules=trial["modules"].split(),
        dropout=recipe.dropout,
        response=recipe.response,
    )
    steps, every = trial["steps"], trial["every"]
    curve = [accuracy(net, data)]

    def after(step: int) -> None:
        if step % every == 0:
            curve.append(accuracy(net, data))

    losses = fit(
        net,
        _fixed(data) if recipe.fixed else data,
        lr=trial["rate"] * recipe.rate,
        steps=steps,
        seed=trial.seed,
        batch_size=1 if recipe.fixed else BATCH,
        momentum=MOMENTUM,
        weight_decay=recipe.l2,
        schedule=lambda done: 0.5 ** (recipe.halvings * done),
        augment=lambda x, chance: relit(x.flatten(0, -4), chance, strength=recipe.distortion),
        loss=lambda outputs, y: functional.cross_entropy(outputs, y.flatten()),
        after=after,
    )

    return {
        "best": max(curve),
        "loss": final(losses, steps),
        "constant_loss": data.constant_loss,
        "constant_accuracy": data.constant_accuracy,
        "step": [every * look for look in range(len(curve))],
        "accuracy": curve,
    }


def _pooled(data: Dataset, size: int) -> Dataset:
    if data.shape[-1] == size:
        return data
    x_train, x_test = (functional.adaptive_avg_pool2d(x, size) for x in (data.x_train, data.x_test))

    return replace(data, x_train=x_train, x_test=x_test)


def _fixed(data: Dataset) -> Dataset:
    """Every example is a batch, put together once."""
    whole = len(data.x_train) // BATCH * BATCH

    x, y = (values[:whole].unflatten(0, (-1, BATCH)) for values in (data.x_train, data.y_train))

    return replace(data, x_train=x, y_train=y)


def _keep(arm: str, settings: Mapping[str, Value]) -> bool:
    """Changes are undone one by one in the network that the paper compares with."""
    return settings["undone"] == "nothing" or arm == "x5"


def _grid(
    seeds: int, seconds: float, digits: Mapping[str, Value], **own: Mapping[str, Value]
) -> Grid:
    """Digits, and other datasets with some settings of their own."""
    usual: dict[str, Value] = {"rate": 0.03, "size": 8, "modules": SMALL}
    settings = {name: (value,) for name, value in {**usual, **digits}.items()}
    by_dataset = {
        dataset: {name: (value,) for name, value in changed.items()}
        for dataset, changed in own.items()
    }

    return Grid(seeds, ("digits", *own), {**settings, "undone": ("nothing",)}, seconds, by_dataset)


SMOKE = _grid(2, 4, {"modules": "3a 3c", "steps": 4, "every": 2})
DEFAULT = _grid(3, 70, {"steps": 90, "every": 5}, cifar10={"steps": 125})
FULL = _grid(
    10,
    60_000,
    {"modules": WHOLE, "steps": 1500, "every": 25},
    cifar10={"steps": 2000, "size": 32},
)

EXPERIMENT = Experiment(
    name="inception-steps",
    title="Steps to Inception’s accuracy",
    about="Inception with an eighth of the channels, by SGD with momentum 0.9 and batches of "
    f"{BATCH}; with batch norm alone, and with the paper’s changes: a higher rate, which falls six "
    "times as fast, a fifth of the L2, half of the distortions of brightness and contrast, batches "
    "put together anew in each epoch, no dropout, no local response normalization. The rate of "
    "Inception is that of 0.01, 0.03 and 0.1 at which its training loss is lowest without batch "
    "norm. By default five of the ten modules and images of 8×8; at the full budget all modules, "
    "images of 32×32, and each change of BN-x5 undone by itself.",
    arms=ARMS,
    budgets={
        "smoke": SMOKE,
        "default": DEFAULT,
        "full": replace(FULL, settings={**FULL.settings, "undone": ("nothing", *UNDONE)}),
    },
    measure=measure,
    measured={
        "best": "highest test accuracy on the way",
        "loss": "training loss (nats), mean of the last tenth of the steps; inf if it diverged",
        "constant_loss": "training loss of the best constant prediction (nats)",
        "constant_accuracy": "test accuracy of always naming the commonest class",
        "step": "minibatches before each test",
        "accuracy": "test accuracy there",
    },
    questions=QUESTIONS,
    charts=CHARTS,
    keep=_keep,
    load=partial(load, train=20_000, test=300),
)
