"""Batch norm in recurrent networks: over whole sequences, and step by step."""

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import polars as pl
import torch

import batchnorm

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final, fit
from .._rules import above, at_best, below, between, differences, ratios, values
from .._sequences import Mode, Reader, load_sequences
from .._trial import Trial, Value
from ..claims import Finding
from ..data import Dataset
from ..summary import difference, estimate
from ..words import points

__all__ = ["EXPERIMENT", "measure"]

POINT = 0.01
MARKS = 30
EQUAL = 10  # about the mean length
MODES: Mapping[str, Mode | None] = {
    "none": None,
    "sequence": "sequence",
    "recurrent": "recurrent",
}
LAURENT = "Laurent et al. 2016, abstract, https://arxiv.org/abs/1510.01378"
AMODEI = "Amodei et al. 2016, section 3.2, https://arxiv.org/abs/1512.02595"
COOIJMANS = "Cooijmans et al. 2017, {}, https://arxiv.org/abs/1603.09025"


def measure(trial: Trial, data: Dataset) -> dict[str, Any]:
    """Train one network; its test accuracy by memory and by the test batch's own statistics."""
    if trial["lengths"] == "equal":
        data = _equally_long(data)
    net = Reader(
        data.shape[1],
        data.classes,
        MODES[trial.arm],
        seed=trial.seed,
        hidden=trial["hidden"],
        longest=data.shape[0],
    )
    steps = trial["steps"]
    losses = fit(
        net, data, lr=trial["lr"], steps=steps, seed=trial.seed, batch_size=64, momentum=0.9
    )
    block = math.ceil(steps / MARKS)
    starts = range(0, len(losses), block)

    return {
        "accuracy": accuracy(net, data),
        "by_batch": accuracy(net, data) if trial.arm == "none" else _by_batch(net, data),
        "loss": final(losses, steps),
        "mean_loss": fmean(losses) if len(losses) == steps else math.inf,
        "curve": [fmean(losses[start : start + block]) for start in starts],
        "curve_steps": [start + block for start in starts],
    }


def _equally_long(data: Dataset) -> Dataset:
    """Every sequence drawn out or cut down to `EQUAL` steps, each the nearest of its own."""
    assert data.lengths_train is not None
    assert data.lengths_test is not None

    return replace(
        data,
        x_train=_stretched(data.x_train, data.lengths_train),
        x_test=_stretched(data.x_test, data.lengths_test),
        lengths_train=torch.full_like(data.lengths_train, EQUAL),
        lengths_test=torch.full_like(data.lengths_test, EQUAL),
    )


def _stretched(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    place = ((torch.arange(EQUAL) + 0.5) / EQUAL * lengths[:, None]).long()

    return x.take_along_dim(place[..., None], 1)


@torch.no_grad()
def _by_batch(net: Reader, data: Dataset) -> float:
    """Test accuracy when the test set is one batch with statistics of its own."""
    with batchnorm.skip_updates(net):
        logits = net(data.x_test, data.lengths_test)

    return float((logits.argmax(1) == data.y_test).double().mean())


def _best(frame: pl.DataFrame, lengths: str = "own") -> pl.DataFrame:
    return at_best(frame.filter(lengths=lengths), "lr", "loss")


def _faster(arm: str, frame: pl.DataFrame) -> Finding:
    quotient = ratios(_best(frame), "mean_loss", arm, "none")

    return below(quotient, 1.0, "{} times the training loss, on average over the steps")


def _better(arm: str, other: str, frame: pl.DataFrame) -> Finding:
    return above(differences(_best(frame), "accuracy", arm, other), 0.0, "{} points", points)


def _equal_are_better(frame: pl.DataFrame) -> Finding:
    """Whether recurrent batch norm gains more on no norm where all sequences are equally long."""
    if "equal" not in frame["lengths"]:
        return Finding("undecided", estimate([math.nan]), "all are equally long as they are")
    gains = []
    for lengths in ("equal", "own"):
        pair = (values(_best(frame, lengths), "accuracy", arm) for arm in ("recurrent", "none"))
        gains.append([a - b for a, b in zip(*pair, strict=True)])

    return above(
        difference(*gains),
        0.0,
        "{} points more on no norm than with sequences as they are",
        points,
    )


def _memory_serves(frame: pl.DataFrame) -> Finding:
    numbers = (values(_best(frame), name, "recurrent") for name in ("accuracy", "by_batch"))
    gap = estimate([memory - batch for memory, batch in zip(*numbers, strict=True)])

    return between(gap, -POINT, POINT, "{} points by memory", points)


def _curves(frame: pl.DataFrame) -> pl.DataFrame:
    return _best(frame).explode("curve", "curve_steps")


def _grid(
    seeds: int, seconds: float, steps: dict[str, int], rates: tuple[float, ...], hidden: int
) -> Grid:
    settings: dict[str, tuple[Value, ...]] = {
        "lengths": ("own",),
        "lr": rates,
        "steps": (max(steps.values()),),
        "hidden": (hidden,),
    }
    by_dataset: dict[str, dict[str, tuple[Value, ...]]] = {
        name: {"steps": (count,)} for name, count in steps.items()
    }
    if "spoken_digits" in by_dataset:
        by_dataset["spoken_digits"]["lengths"] = ("own", "equal")

    return Grid(seeds, tuple(steps), settings, seconds, by_dataset)


EXPERIMENT = Experiment(
    name="speech",
    title="Recurrent networks",
    about="Two LSTM layers read a spoken digit by frames of 40 ms, or a written one row by row, "
    "standardised; a linear layer says which. The arms begin with the same weights and see the "
    "same minibatches of 64 (SGD, momentum 0.9), each at the rate with the lowest training loss at "
    "the end. Frames behind a sequence’s end are neither read nor counted: of a batch "
    "of 64 recordings few go on to the late steps, and statistics of those steps are of few. So "
    f"recordings are also drawn out or cut down to {EQUAL} frames each.",
    arms={
        "none": "no norm",
        "sequence": "sequence-wise batch norm",
        "recurrent": "recurrent batch norm",
    },
    budgets={
        "smoke": _grid(3, 3, {"digits": 25}, (0.4,), 16),
        "default": _grid(5, 65, {"digits": 200, "spoken_digits": 120}, (0.1, 0.4), 32),
        "full": _grid(
            *(10, 15_000, {"digits": 2000, "spoken_digits": 2000, "mnist": 5000}),
            *((0.05, 0.1, 0.2, 0.4, 0.8), 64),
        ),
    },
    measure=measure,
    load=load_sequences,
    measured={
        "accuracy": "test accuracy at the end, by the statistics remembered from training",
        "by_batch": "test accuracy at the end, by the statistics of the test set as one batch",
        "loss": "training loss of the last tenth of the steps, in nats",
        "mean_loss": "training loss of all steps, in nats",
        "curve": "training loss along the way, in nats",
        "curve_steps": "steps at which the curve stands",
    },
    questions=(
        Question(
            "With sequence-wise batch norm a recurrent network learns faster.",
            LAURENT,
            "holds if the training loss, averaged over all steps, is lower",
            lambda frame: _faster("sequence", frame),
        ),
        Question(
            "With sequence-wise batch norm a recurrent network is more accurate.",
            f"{AMODEI}; the opposite: {LAURENT}",
            "holds if test accuracy is higher",
            lambda frame: _better("sequence", "none", frame),
            "word error rate with 7 recurrent layers: 10.83 % without, 9.52 % with it",
        ),
        Question(
            "With recurrent batch norm a recurrent network learns faster.",
            COOIJMANS.format("section 5"),
            "holds if the training loss, averaged over all steps, is lower",
            lambda frame: _faster("recurrent", frame),
        ),
        Question(
            "With recurrent batch norm a recurrent network is more accurate.",
            COOIJMANS.format("section 5.1"),
            "holds if test accuracy is higher",
            lambda frame: _better("recurrent", "none", frame),
            "digits pixel by pixel: 98.9 % without, 99.0 % with it; permuted 90.2 % and 95.4 %",
        ),
        Question(
            "Statistics over the sequence serve better than statistics of each step.",
            AMODEI,
            "holds if test accuracy is higher with sequence-wise than with recurrent batch norm",
            lambda frame: _better("sequence", "recurrent", frame),
        ),
        Question(
            "What recurrent batch norm suffers from are steps that few sequences of a batch reach.",
            "a consequence of " + COOIJMANS.format("section 3, statistics for each step"),
            "holds if it gains more test accuracy on no norm where all sequences are equally long",
            _equal_are_better,
        ),
        Question(
            "Remembered statistics of each step serve as well as those of the test batch.",
            COOIJMANS.format("section 3, which recommends them"),
            "holds if test accuracy differs by less than one percentage point either way",
            _memory_serves,
        ),
    ),
    charts=(
        Chart(
            "training-loss",
            "Training loss",
            "Each at the rate with the lowest loss at the end.",
            "lines",
            Axis("curve_steps", "steps"),
            Axis("curve", "training loss (nats)", "log"),
            rows=_curves,
        ),
        Chart(
            "accuracy",
            "Test accuracy by learning rate",
            "By the statistics remembered from training.",
            "points",
            Axis("lr", "learning rate", "ordinal"),
            Axis("accuracy", "test accuracy", format=".0%"),
            columns="lengths",
        ),
        Chart(
            "by-batch",
            "Test accuracy by the test set’s own statistics",
            "What is above the chart of test accuracy is lost by remembered statistics.",
            "points",
            Axis("lr", "learning rate", "ordinal"),
            Axis("by_batch", "test accuracy", format=".0%"),
            columns="lengths",
        ),
    ),
)
