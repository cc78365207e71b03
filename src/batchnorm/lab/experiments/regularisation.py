"""Batch norm beside dropout, L2 and augmentation, on few examples."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import polars as pl
import torch
from torch import nn

import batchnorm

from .._augment import shifted
from .._chart import Axis, Chart
from .._dropout import BATCH, batch_noise, dropped, variance_shift
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, fit
from .._rules import above, below, between
from .._trial import Trial, Value
from ..data import Dataset, load
from ..models import Mlp, Norm
from ..words import points
from ._regularisation_rules import (
    SWITCHES,
    falls_as_root,
    gain,
    ghosts,
    named,
    repaired,
    shifted_variance,
    shifts_less,
    smaller_gap,
)

__all__ = ["EXPERIMENT", "measure"]

POINT = 0.01
PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
LI = "Li et al. 2018, {}, https://arxiv.org/abs/1801.05134"
LUO = "Luo et al. 2019, {}, https://arxiv.org/abs/1809.00846"
LAARHOVEN = "van Laarhoven 2017, https://arxiv.org/abs/1706.05350"


def measure(trial: Trial, data: Dataset) -> dict[str, float]:
    """Train one network on half of the training part; the other half is held out."""
    learned, held_out = _halves(data)
    mlp = _mlp(trial, data)
    net = nn.Sequential(nn.Flatten(), mlp)
    fit(
        net,
        learned,
        lr=trial["lr"],
        steps=trial["steps"],
        seed=trial.seed,
        batch_size=BATCH,
        momentum=0.9,
        weight_decay=trial["l2"],
        augment=shifted if trial["shifts"] else None,
    )
    normed = trial.arm != "plain"
    x = learned.x_train
    found = {
        "accuracy": accuracy(net, data),
        "train_accuracy": accuracy(net, replace(learned, x_test=x, y_test=learned.y_train)),
        "held_out_error": 1 - accuracy(net, held_out),
        "shift": variance_shift(mlp, x.flatten(1)) if normed else 1.0,
        "noise": _noise(mlp, x.flatten(1), trial["ghost"]) if normed else 0.0,
    }
    if normed:
        batchnorm.recalibrate(net, [x], progress=False)

    return found | {"recalibrated": accuracy(net, data)}


def _halves(data: Dataset) -> tuple[Dataset, Dataset]:
    """What is learned, and what is held out as the test part of the second."""
    half = len(data.x_train) // 2
    learned = replace(data, x_train=data.x_train[:half], y_train=data.y_train[:half])

    return learned, replace(data, x_test=data.x_train[half:], y_test=data.y_train[half:])


def _mlp(trial: Trial, data: Dataset) -> Mlp:
    norm: Norm | None = None
    if trial.arm != "plain":
        norm = partial(batchnorm.GhostBatchNorm1d, ghost_batch_size=trial["ghost"])
    net = Mlp(data.features, data.classes, norm, seed=trial.seed, activation=nn.ReLU())

    return dropped(net, trial["dropout"], last=trial.arm == "last")


@torch.no_grad()
def _noise(net: Mlp, x: torch.Tensor, size: int) -> float:
    return batch_noise(net.linears[0](x), size)


def _keep(arm: str, settings: Mapping[str, Value]) -> bool:
    """Dropout behind the last norm needs dropout; small ghost batches are for bare batch norm."""
    if settings["ghost"] != BATCH:
        return arm == "batch" and not any(settings[name] for name in SWITCHES)

    return arm != "last" or bool(settings["dropout"])


def _grid(
    seeds: int, steps: int, seconds: float, *datasets: str, **others: tuple[Value, ...]
) -> Grid:
    settings: dict[str, tuple[Value, ...]] = {
        "lr": (0.05,),
        "steps": (steps,),
        "dropout": (0.0, 0.5),
        "l2": (0.0, 1e-3, 1e-2),
        "shifts": (False, True),
        "ghost": (BATCH, 16, 4),
    }

    return Grid(seeds, datasets, settings | others, seconds)


EXPERIMENT = Experiment(
    name="regularisation",
    title="Batch norm, dropout, L2 and augmentation",
    about="Fully connected networks with three hidden ReLU layers learn from 500 images, by SGD "
    "with momentum 0.9 and 64 images at a time. Every combination of dropout, L2 and random shifts "
    "by an eighth of the size, with and without batch norm; rates and strengths are chosen on 500 "
    "other images. Where the norm sees fewer than 64, by ghost batches, the gradient’s minibatch "
    "stays.",
    arms={
        "plain": "no norm",
        "batch": "batch norm",
        "last": "batch norm, dropout behind the last",
    },
    budgets={
        "smoke": _grid(2, 20, 3, "digits", l2=(0.0, 1e-2), ghost=(BATCH, 8)),
        "default": _grid(5, 240, 50, "digits", "usps"),
        "full": _grid(
            *(10, 3000, 12_000, "digits", "usps", "mnist"),
            lr=(0.01, 0.05, 0.2),
            dropout=(0.0, 0.2, 0.5),
            l2=(0.0, 1e-4, 1e-3, 1e-2),
        ),
    },
    measure=measure,
    keep=_keep,
    load=partial(load, train=1000),
    measured={
        "accuracy": "test accuracy at the end",
        "train_accuracy": "accuracy at the end on what was learned, in eval mode",
        "held_out_error": "share of the held-out images that are named wrongly",
        "shift": "variance that enters norms without dropout, over that with dropout",
        "noise": "what the size of the norm’s batches adds to the first norm’s outputs, in "
        "standard deviations",
        "recalibrated": "test accuracy with statistics taken again, without dropout",
    },
    questions=(
        Question(
            "Batch norm regularises: few examples are learned with better test accuracy.",
            PAPER.format("section 3.4"),
            "holds if test accuracy is higher with it, no other regulariser beside it",
            lambda frame: above(
                gain(frame, ("batch", ()), ("plain", ())), 0.0, "{} points by batch norm", points
            ),
        ),
        Question(
            "With batch norm dropout is not needed.",
            PAPER.format("sections 3.4 and 4.2.1"),
            "holds if dropout adds less than one percentage point of test accuracy",
            lambda frame: below(
                gain(frame, ("batch", ("dropout",)), ("batch", ())),
                POINT,
                "{} points by dropout",
                points,
            ),
        ),
        Question(
            "Batch norm and dropout stand in for L2.",
            PAPER.format("section 4.2.1, where L2 is weakened, beside section 3.4"),
            "holds if, with batch norm, dropout is less than one percentage point behind L2",
            lambda frame: above(
                gain(frame, ("batch", ("dropout",)), ("batch", ("l2",))),
                -POINT,
                "{} points with dropout in place of L2",
                points,
            ),
        ),
        Question(
            "With batch norm L2 does not regularise.",
            LAARHOVEN,
            "holds if it changes test accuracy by less than one percentage point either way",
            lambda frame: between(
                gain(frame, ("batch", ("l2",)), ("batch", ())),
                -POINT,
                POINT,
                "{} points by L2",
                points,
            ),
        ),
        Question(
            "With batch norm augmentation gains less.",
            PAPER.format("section 4.2.1, where distortions are reduced"),
            "holds if shifts add fewer points of test accuracy with it than without",
            shifts_less,
        ),
        Question(
            "Behind dropout batch norm expects more variance than it meets at test time.",
            LI.format("abstract"),
            "holds if what enters varies less without dropout than with it",
            shifted_variance,
        ),
        Question(
            "Dropout belongs behind the last batch norm.",
            LI.format("“Apply Dropout after all BN layers”"),
            "holds if test accuracy is higher than with dropout behind every activation",
            lambda frame: above(
                gain(frame, ("last", ("dropout",)), ("batch", ("dropout",))),
                0.0,
                "{} points behind the last",
                points,
            ),
        ),
        Question(
            "Statistics taken again without dropout repair the shift of variance.",
            LI.format("where the moving statistics are adjusted"),
            "holds if they raise test accuracy where dropout is behind every activation",
            repaired,
        ),
        Question(
            "The fewer examples batch norm sees at once, the more it regularises.",
            LUO.format("section 2"),
            "holds if training minus test accuracy is smaller with the smallest ghost batches",
            smaller_gap,
        ),
        Question(
            "Batch norm’s noise falls with the root of the number of examples.",
            LUO.format("section 2"),
            "holds if it is as much larger in the smallest ghost batches, within a factor of 1.25",
            falls_as_root,
        ),
    ),
    charts=(
        Chart(
            "combinations",
            "Accuracy by combination",
            "Each at the strength that is best on held-out images.",
            "points",
            Axis("regularisers", "regularisers beside the norm", "ordinal"),
            Axis("share", "accuracy", format=".0%"),
            columns="part",
            rows=named,
        ),
        Chart(
            "variance-shift",
            "Variance without dropout over variance with it",
            "Below 1 batch norm’s memory expects more variance than comes at test time.",
            "points",
            Axis("dropout", "dropout", "ordinal"),
            Axis("shift", "ratio of variances"),
            rows=lambda frame: frame.filter(pl.col("arm") != "plain", ghost=BATCH),
        ),
        Chart(
            "gap",
            "Training minus test accuracy by size of the norm’s batch",
            "Bare batch norm; the gradient always comes from 64 images.",
            "lines",
            Axis("ghost", "examples normalised together", "log"),
            Axis("gap", "training minus test accuracy", format=".1%"),
            rows=ghosts,
        ),
        Chart(
            "noise",
            "Noise by size of the norm’s batch",
            "A straight line of slope −½ is the root’s law.",
            "lines",
            Axis("ghost", "examples normalised together", "log"),
            Axis("noise", "noise in standard deviations", "log"),
            rows=ghosts,
        ),
    ),
)
