"""Raw features: batch norm as the input layer, beside a scaler and nothing."""

import copy
from dataclasses import replace
from functools import partial

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, fit, predictions
from .._rules import above, at_best, between, differences, values
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset
from ..models import Mlp
from ..summary import estimate
from ..words import points

__all__ = ["EXPERIMENT", "measure"]

BATCH = 32
HELD_OUT = 5  # one part in
POINT = 0.02
SPREAD = 0.95
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
TABLES = ("wine", "breast_cancer", "diabetes", "housing")
CAPTION = "Test accuracy, or R² where numbers are predicted."
LESSON = (
    "Holbrook, Dropout and Batch Normalization, Kaggle Learn, "
    "https://www.kaggle.com/code/ryanholbrook/dropout-and-batch-normalization"
)


def measure(trial: Trial, data: Dataset) -> dict[str, float]:
    """Train one network on features as they are or scaled."""
    data, held_out = _parts(data, trial.seed)
    if trial.arm in ("scaler", "both"):
        data, held_out = _scaled(data, held_out)
    normed = trial.arm in ("norm", "both")
    first = batchnorm.BatchNorm1d(data.features) if normed else nn.Identity()
    net = nn.Sequential(first, _network(data, trial.seed))
    spread = _spread(first, data)
    loss = functional.cross_entropy if data.classes else _squares
    fit(
        net,
        data,
        lr=trial["lr"],
        steps=trial["steps"],
        seed=trial.seed,
        batch_size=BATCH,
        momentum=0.9,
        loss=loss,
    )

    return {
        "score": accuracy(net, data) if data.classes else _explained(net, data),
        "held_out": float(loss(predictions(net, held_out), held_out.y_test)),
        "spread": spread,
    }


def _parts(data: Dataset, seed: int) -> list[Dataset]:
    """The data without a part of what trains, and the same with that part to test."""
    order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(seed))
    held, kept = order.tensor_split([len(order) // HELD_OUT])
    trains = replace(data, x_train=data.x_train[kept], y_train=data.y_train[kept])

    return [trains, replace(trains, x_test=data.x_train[held], y_test=data.y_train[held])]


def _scaled(*parts: Dataset) -> list[Dataset]:
    """Datasets that train on the same examples, scaled by these."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(parts[0].x_train.numpy())

    def scaled(x: Tensor) -> Tensor:
        return torch.from_numpy(scaler.transform(x.numpy()))

    return [replace(x, x_train=scaled(x.x_train), x_test=scaled(x.x_test)) for x in parts]


def _network(data: Dataset, seed: int) -> Mlp:
    outputs = data.classes or 1
    relu = functional.relu

    return Mlp(data.features, outputs, None, seed=seed, hidden=32, depth=2, activation=relu)


@torch.no_grad()
def _spread(first: nn.Module, data: Dataset) -> float:
    """The smallest standard deviation of a feature that enters the network, in training mode."""
    entering = copy.deepcopy(first)(data.x_train)

    return float(entering.double().std(0, correction=0).min())


def _squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs[:, 0], targets)


def _explained(net: nn.Module, data: Dataset) -> float:
    """R²: the part of the test targets' variance that is explained; at least 0."""
    left = _squares(predictions(net, data), data.y_test)
    explained = float(1 - left / data.y_test.var(correction=0))

    return explained if explained > 0 else 0.0


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame, "lr", "held_out")


def _higher(frame: pl.DataFrame, *, arm: str, other: str, text: str) -> Finding:
    gain = differences(_best(frame), "score", arm, other)

    return above(gain, 0.0, text, points)


def _equal(frame: pl.DataFrame, *, arm: str, other: str, text: str) -> Finding:
    gain = differences(_best(frame), "score", arm, other)

    return between(gain, -POINT, POINT, text, points)


def _grid(seeds: int, steps: int, seconds: float, rates: tuple[float, ...], *datasets: str) -> Grid:
    # Raw features of houses, thousands, need a far lower rate.
    lower = {name: {"lr": (1e-7, *rates)} for name in datasets if name == "housing"}

    return Grid(seeds, datasets, {"lr": rates, "steps": (steps,)}, seconds, lower)


EXPERIMENT = Experiment(
    name="raw-features",
    title="Features that are not scaled",
    about="A fully connected network of two hidden layers with ReLU, trained by SGD with momentum "
    "0.9 on tables whose features differ in scale up to 200,000 times; no norm but, in two arms, "
    "a batch norm as the first layer. Every seed holds a fifth of the training part out; each arm "
    "has the learning rate with the lowest loss there.",
    arms={
        "nothing": "raw features",
        "scaler": "StandardScaler",
        "norm": "batch norm first",
        "both": "scaler, then batch norm",
    },
    budgets={
        "smoke": _grid(3, 100, 2, (1e-4, 1e-2), "wine", "diabetes"),
        "default": _grid(4, 200, 16, RATES, *TABLES),
        "full": _grid(20, 5000, 4000, (1e-6, *RATES, 1.0), *TABLES),
    },
    measure=measure,
    measured={
        "score": "test accuracy at the end, or R² where numbers are predicted; 0 where that is "
        "worse than their mean, or no number",
        "held_out": "loss at the end of the part that was held out (nats, or squared standard "
        "deviations of the target)",
        "spread": "smallest standard deviation of a feature that enters the network, over what "
        "trains, before training",
    },
    questions=(
        Question(
            "Batch norm as the input layer stands in for StandardScaler.",
            LESSON,
            f"holds if accuracy or R² differ by less than {100 * POINT:.0f} points either way, "
            "each at its best rate",
            partial(_equal, arm="norm", other="scaler", text="{} points against the scaler"),
        ),
        Question(
            "Batch norm at the input samples its statistics from minibatches, and a scaler that "
            "has seen all data is better.",
            "answer at https://stackoverflow.com/questions/39930962",
            "holds if the scaler’s accuracy or R² is higher, each at its best rate",
            partial(_higher, arm="scaler", other="norm", text="{} points with the scaler"),
        ),
        Question(
            "Raw features need a scaler or a norm: a tuned learning rate does not make up for it.",
            f"{LESSON}, where features of different scales make training unstable",
            "holds if accuracy or R² are higher with batch norm first than with nothing, each at "
            "its best rate",
            partial(_higher, arm="norm", other="nothing", text="{} points with batch norm first"),
        ),
        Question(
            "After StandardScaler, batch norm at the input changes nothing.",
            "asked at https://stackoverflow.com/questions/46771939",
            f"holds if accuracy or R² differ by less than {100 * POINT:.0f} points either way, "
            "each at its best rate",
            partial(_equal, arm="both", other="scaler", text="{} points with both"),
        ),
        Question(
            "Batch norm gives every feature the standard deviation 1, whatever its unit.",
            "Ioffe & Szegedy 2015, section 3, https://arxiv.org/abs/1502.03167",
            f"holds if no feature leaves it with less than {SPREAD}; eps = 10⁻⁵ is in the way of "
            "those that are tiny",
            lambda frame: above(
                estimate(values(frame, "spread", "norm")), SPREAD, "the smallest is {}"
            ),
        ),
    ),
    charts=(
        Chart(
            "best",
            "Each at its best learning rate",
            CAPTION,
            "bars",
            Axis("arm", "", "ordinal"),
            Axis("score", "accuracy or R²", domain=(0, 1)),
            rows=_best,
        ),
        Chart(
            "rates",
            "By learning rate",
            CAPTION,
            "lines",
            Axis("lr", "learning rate", "log"),
            Axis("score", "accuracy or R²", domain=(0, 1)),
        ),
    ),
)
