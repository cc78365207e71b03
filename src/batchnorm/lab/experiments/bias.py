"""The bias before batch norm: what it does, learns and costs; and batch norm as the identity."""

import statistics
import time
from collections.abc import Iterator
from functools import partial

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, fit
from .._rules import above, below, between, differences, values
from .._trial import Trial
from ..data import Dataset, load
from ..models import Mlp
from ..summary import estimate, ratio
from ..words import points, power

__all__ = ["EXPERIMENT", "measure"]

ROUNDING = 1e-4
ROUNDS = 100
POINT = 0.01
PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"


def measure(trial: Trial, data: Dataset) -> dict[str, float]:
    """Train one network and look at its biases."""
    biased = trial.arm == "with"
    norm = batchnorm.BatchNorm1d
    net = Mlp(data.features, data.classes, norm, seed=trial.seed, bias=biased)
    slopes = [0.0]

    def look(_step: int) -> None:
        slopes.append(max(_slopes(net)))

    fit(
        net,
        data,
        lr=trial["lr"],
        steps=trial["steps"],
        seed=trial.seed,
        after=look if biased else lambda _step: None,
    )

    return {
        "accuracy": accuracy(net, data),
        "slope": max(slopes),
        "moved": _moved(net, data.x_train[:200]) if biased else 0.0,
        "identity": _identity(net, data.x_train[:200]),
        "cost": _cost(data, trial) if biased else 1.0,
    }


def _slopes(net: Mlp) -> Iterator[float]:
    """Norm of a bias's gradient over that of the weight beside it."""
    for linear in net.linears:
        bias, weight = linear.bias.grad, linear.weight.grad
        assert isinstance(bias, Tensor)
        assert isinstance(weight, Tensor)
        yield float(bias.norm() / weight.norm())


@torch.no_grad()
def _moved(net: Mlp, x: Tensor) -> float:
    """How far outputs in training mode move, relative to their size, when every bias is random."""
    with batchnorm.skip_updates(net):
        before = net(x)
        for linear in net.linears:
            assert isinstance(linear.bias, nn.Parameter)
            linear.bias.normal_()
        after = net(x)

    return float((after - before).norm() / before.norm())


@torch.no_grad()
def _identity(net: Mlp, x: Tensor) -> float:
    """Distance of the first norm's output from its input, when it was set to be the identity."""
    layer = net.norms[0]
    assert isinstance(layer, batchnorm.BatchNorm1d)
    entering = net.linears[0](x)
    layer.weight.copy_((entering.var(0, correction=0) + layer.eps).sqrt())
    layer.bias.copy_(entering.mean(0))
    with batchnorm.skip_updates(layer):
        leaving = layer(entering)

    return float((leaving - entering).norm() / entering.norm())


def _cost(data: Dataset, trial: Trial) -> float:
    """Median processor time of a training step with biases over that without, by turns."""
    x, y = data.x_train[:60], data.y_train[:60]
    nets = [
        Mlp(data.features, data.classes, batchnorm.BatchNorm1d, seed=trial.seed, bias=biased)
        for biased in (True, False)
    ]
    optimizers = [torch.optim.SGD(net.parameters(), trial["lr"]) for net in nets]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for net, optimizer, taken in zip(nets, optimizers, times, strict=True):
            started = time.thread_time()
            optimizer.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            taken.append(time.thread_time() - started)

    return statistics.median(times[0]) / statistics.median(times[1])


def _small(trials: pl.DataFrame) -> pl.DataFrame:
    """A row for each number that should be rounding, and its name."""
    numbers = trials.unpivot(
        ["moved", "slope", "identity"], index=["arm", "seed"], value_name="number"
    )
    names = {
        "moved": "outputs, biases random",
        "slope": "gradient of the bias",
        "identity": "layer as the identity",
    }

    return numbers.filter(pl.col("number") > 0).with_columns(what=pl.col("variable").replace(names))


def _grid(seeds: int, steps: int, seconds: float, *datasets: str) -> Grid:
    return Grid(seeds, datasets, {"lr": (0.5,), "steps": (steps,)}, seconds)


EXPERIMENT = Experiment(
    name="bias",
    title="The bias before batch norm",
    about="A fully connected sigmoid network with batch norm, its hidden layers with and without a "
    "bias, from the same weights on the same minibatches.",
    arms={"without": "no bias before batch norm", "with": "a bias before batch norm"},
    budgets={
        "smoke": _grid(3, 50, 2, "digits"),
        "default": _grid(5, 1000, 14, "digits", "mnist"),
        "full": _grid(20, 10_000, 1200, "digits", "mnist"),
    },
    measure=measure,
    load=partial(load, flat=True),
    measured={
        "accuracy": "test accuracy at the end",
        "slope": "largest norm of a bias’s gradient, relative to its layer’s weight’s, in training",
        "moved": "change of the outputs by random biases, relative to their norm, in training mode",
        "identity": "distance of a layer’s output from its input, relative, at weight = √(var+eps) "
        "and bias = mean",
        "cost": "processor time of a training step, relative to that without biases",
    },
    charts=(
        Chart(
            "rounding",
            "What should be zero",
            "Relative sizes, on a logarithmic axis: a float32 rounding is 6×10⁻⁸.",
            "points",
            Axis("what", "", "ordinal"),
            Axis("number", "size, relative", "log", ".0e"),
            rows=_small,
        ),
        Chart(
            "accuracy",
            "Test accuracy with and without the bias",
            "Mean over seeds, the line from the lowest to the highest.",
            "bars",
            Axis("arm", "", "ordinal"),
            Axis("accuracy", "test accuracy", format=".0%", domain=(0, 1)),
        ),
    ),
    questions=(
        Question(
            "A bias before batch norm changes nothing: its effect is subtracted with the mean.",
            PAPER.format("section 3.2"),
            "holds if outputs move by less than 10⁻⁴ when standard normal numbers replace it",
            lambda frame: below(
                estimate(values(frame, "moved", "with")),
                ROUNDING,
                "outputs move by {} of their norm",
                power,
            ),
        ),
        Question(
            "A bias before batch norm learns nothing: its gradient is zero.",
            PAPER.format("section 3.2, a consequence"),
            "holds if the gradient stays below 10⁻⁴ of the weight’s throughout training",
            lambda frame: below(
                estimate(values(frame, "slope", "with")),
                ROUNDING,
                "at most {} of the weight’s gradient",
                power,
            ),
        ),
        Question(
            "Without the bias the network is as accurate.",
            PAPER.format("section 3.2"),
            "holds if the difference lies within one percentage point either way",
            lambda frame: between(
                differences(frame, "accuracy", "without", "with"),
                -POINT,
                POINT,
                "{} points without it",
                points,
            ),
        ),
        Question(
            "The bias costs time.",
            PAPER.format("section 3.2, where it is left out without a word on time"),
            "holds if a training step takes longer with it than without",
            lambda frame: above(
                ratio(values(frame, "cost", "with")), 1.0, "{} times as long", "{:.3f}".format
            ),
        ),
        Question(
            "Batch norm can be the identity: with weight = √(var+eps) and bias = mean.",
            PAPER.format("section 3"),
            "holds if its output is within 10⁻⁴ of its input",
            lambda frame: below(
                estimate(values(frame, "identity", "without")),
                ROUNDING,
                "output and input differ by {}",
                power,
            ),
        ),
    ),
)
