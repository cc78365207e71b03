"""Residual networks of several depths with batch norm, without, and with a scalar instead."""

from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final, fit
from .._looks import still
from .._rules import above, at_best, below, between, differences, values
from .._trial import Trial
from ..claims import Finding
from ..data import Dataset, load
from ..models import PreActivationResNet
from ..models._resnet import PreActivationBlock
from ..summary import ratio
from ..words import factor, points

__all__ = ["EXPERIMENT", "measure"]

STAGES = 3
WIDTH = 8
MOMENTUM = 0.9
BATCH = 32
PROBED = 200
NEAR = 2.0
BEHIND = 0.02
DE = "De & Smith 2020, {}, https://arxiv.org/abs/2002.10444"
SHALLOWEST, DEEPEST = pl.col("depth").min(), pl.col("depth").max()


def measure(trial: Trial, data: Dataset) -> dict[str, Any]:
    """Look at the blocks of one network, then train it."""
    net = PreActivationResNet(
        batchnorm.BatchNorm2d if trial.arm == "batch" else None,
        seed=trial.seed,
        depths=(trial["depth"],) * STAGES,
        width=WIDTH,
        channels=data.shape[0],
        classes=data.classes,
        skip_init=trial.arm == "scalar",
    )
    branch = _branches(net, data.x_train[:PROBED])
    steps = trial["steps"]
    losses = fit(
        net,
        data,
        lr=trial["lr"],
        steps=steps,
        seed=trial.seed,
        batch_size=BATCH,
        momentum=MOMENTUM,
        schedule=lambda done: 1 - done,
    )

    return {
        "accuracy": accuracy(net, data),
        "loss": final(losses, steps),
        "last": branch[trial["depth"] - 1],
        "block": list(range(1, len(branch) + 1)),
        "branch": branch,
    }


@torch.no_grad()
def _branches(net: PreActivationResNet, x: Tensor) -> list[float]:
    """Of each block: the spread of what its branch adds over that of what it is added to."""
    added: list[Tensor] = []
    found: list[float] = []

    def compare(_block: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(float(added[-1].std() / (output - added[-1]).std()))

    blocks = [block for block in net.modules() if isinstance(block, PreActivationBlock)]
    hooks = [block.register_forward_hook(compare) for block in blocks]
    hooks += [
        block.body.register_forward_hook(lambda _, __, output: added.append(output))
        for block in blocks
    ]
    try:
        with still(net):
            net(x)
    finally:
        for hook in hooks:
            hook.remove()

    return found


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame, "lr", "loss", per=("depth",))


def _ahead(arm: str, other: str, depth: pl.Expr) -> Callable[[pl.DataFrame], Finding]:
    """Whether `arm` is the more accurate at one depth."""

    def judge(frame: pl.DataFrame) -> Finding:
        blocks = frame.select(depth).item()
        found = differences(_best(frame), "accuracy", arm, other, depth=blocks)

        return above(found, 0.0, f"{{}} points with {STAGES * blocks} blocks", points)

    return judge


def _stands_in(frame: pl.DataFrame) -> Finding:
    blocks = frame.select(DEEPEST).item()
    behind = differences(_best(frame), "accuracy", "batch", "scalar", depth=blocks)

    return below(behind, BEHIND, f"{{}} points behind with {STAGES * blocks} blocks", points)


def _branch(frame: pl.DataFrame, arm: str, expected: Callable[[int], float]) -> Finding:
    """Whether the first stage’s last branch is as large as expected, within a factor."""
    blocks = frame.select(DEEPEST).item()
    found = values(frame, "last", arm, depth=blocks)
    off = ratio([value / expected(blocks) for value in found])
    text = f"{{}} times what is expected, {factor(expected(blocks))} of the skip connection"

    return between(off, 1 / NEAR, NEAR, text, factor)


def _small_branches(frame: pl.DataFrame) -> Finding:
    return _branch(frame, "batch", lambda blocks: blocks**-0.5)


def _equal_branches(frame: pl.DataFrame) -> Finding:
    return _branch(frame, "none", lambda _: 1.0)


def _blocks(frame: pl.DataFrame) -> pl.DataFrame:
    """One rate: the networks differ by it only later."""
    deepest = frame.filter(pl.col("depth") == DEEPEST, pl.col("lr") == pl.col("lr").min())

    return deepest.select("arm", "seed", "block", "branch").explode("block", "branch")


def _grid(seeds: int, steps: int, seconds: float, depths: tuple[int, ...], *datasets: str) -> Grid:
    settings = {"depth": depths, "lr": (0.01, 0.03, 0.1), "steps": (steps,)}

    return Grid(seeds, ("digits", *datasets), settings, seconds)


EXPERIMENT = Experiment(
    name="residual",
    title="Residual networks with and without",
    about="Pre-activation residual networks of three stages: blocks of two 3×3 convolutions with "
    "batch norm and a ReLU before each, without any norm, and without norm but with a scalar that "
    "starts at zero on each branch (SkipInit). SGD with momentum 0.9 at rates that fall to zero; "
    "each network at each depth has the one with the lowest training loss. Before training, what "
    "each block adds is compared with what it is added to.",
    arms={
        "none": "no norm",
        "batch": "batch norm",
        "scalar": "a scalar from zero (SkipInit)",
    },
    budgets={
        "smoke": _grid(2, 4, 4, (1, 2)),
        "default": _grid(3, 90, 45, (1, 4), "mnist"),
        "full": _grid(10, 3000, 40_000, (1, 4, 16), "mnist", "cifar10"),
    },
    measure=measure,
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "training loss (nats), mean of the last tenth of the steps; inf if it diverged",
        "last": "spread of what the branch of the first stage’s last block adds, relative to that "
        "of what it is added to, before training; later stages have images so small that the zeros "
        "around them matter",
        "block": "1 the first, through all stages",
        "branch": "the same for each block",
    },
    questions=(
        Question(
            "At the start batch norm makes residual branches small: in the ℓ-th block of a stage "
            "about 1/√ℓ of the skip connection.",
            DE.format("abstract"),
            "holds if in the deepest network the first stage’s last branch is within a factor of "
            "two of that",
            _small_branches,
        ),
        Question(
            "Without it branch and skip connection are alike at every depth.",
            DE.format("on networks without normalization"),
            "holds if in the deepest network the first stage’s last branch is within a factor of "
            "two of its skip connection",
            _equal_branches,
        ),
        Question(
            "With batch norm a deep residual network is more accurate than without.",
            DE.format("table 1"),
            "holds if the difference with the most blocks is above zero",
            _ahead("batch", "none", DEEPEST),
        ),
        Question(
            "With batch norm a shallow residual network is more accurate than without.",
            "He et al. 2016, section 3.4, which uses it, https://arxiv.org/abs/1512.03385",
            "holds if the difference with the fewest blocks is above zero",
            _ahead("batch", "none", SHALLOWEST),
        ),
        Question(
            "A deep residual network trains without norm if each branch starts at zero.",
            DE.format("on SkipInit"),
            "holds if it is more accurate with the scalar than without, with the most blocks",
            _ahead("scalar", "none", DEEPEST),
        ),
        Question(
            "Such a scalar stands in for batch norm.",
            DE.format("table 1"),
            "holds if it is less than two points behind batch norm with the most blocks",
            _stands_in,
        ),
    ),
    charts=(
        Chart(
            key="accuracy",
            title="Accuracy over depth",
            caption="Test accuracy at each network’s best rate.",
            mark="lines",
            x=Axis("depth", "blocks per stage", scale="log"),
            y=Axis("accuracy", "test accuracy", format=".0%"),
            rows=_best,
        ),
        Chart(
            key="branches",
            title="What each block adds, before training",
            caption="Spread of what the branch adds over the spread of what it is added to, in the "
            "deepest network. With batch norm 1/√ℓ is expected at a stage’s ℓ-th block, without 1.",
            mark="lines",
            x=Axis("block", "block"),
            y=Axis("branch", "branch over skip connection"),
            rows=_blocks,
        ),
        Chart(
            key="rates",
            title="Accuracy over rates",
            caption="Test accuracy at every rate.",
            mark="lines",
            x=Axis("lr", "learning rate", scale="log"),
            y=Axis("accuracy", "test accuracy", format=".0%"),
            columns="blocks per stage",
            rows=lambda frame: frame.rename({"depth": "blocks per stage"}),
        ),
    ),
    load=partial(load, train=5000, test=1000, size=8, standard=True),
)
