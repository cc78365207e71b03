"""What the experiment on learning rates decides, and its charts."""

import math
from functools import partial

import polars as pl

from .._chart import Axis, Chart
from .._ending import TRAINS
from .._experiment import Question
from .._rules import above, at_best, below, differences, highest, values
from ..claims import Finding
from ..summary import estimate, ratio
from ..words import factor, points, power

__all__ = ["CHARTS", "QUESTIONS"]

PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
SMALL = 0.01
CLOSE = 0.05


def _higher(activation: str, frame: pl.DataFrame) -> Finding:
    mine = frame.filter(activation=activation)
    plain, normed = (highest(mine, "lr", arm, TRAINS) for arm in ("plain", "batchnorm"))
    pairs = [(p, n) for p, n in zip(plain, normed, strict=True) if p and n]
    if len(pairs) < len(normed):
        missing = f"{plain.count(None)} seeds without, {normed.count(None)} with batch norm"
        return Finding("undecided", estimate([math.nan]), f"trains at no rate: {missing}")
    found = ratio([n / p for p, n in pairs], grid=10 ** _step(mine))
    ends = f"up to {max(p for p, _ in pairs):g} without, {max(n for _, n in pairs):g} with it"

    return above(found, 1.0, f"{ends}: {{}} times as high", factor)


def _step(frame: pl.DataFrame) -> float:
    """Distance of neighbouring rates in decades, on average."""
    rates = sorted(set(frame["lr"].to_list()))

    return math.log10(rates[-1] / rates[0]) / (len(rates) - 1)


def _better(activation: str, frame: pl.DataFrame) -> Finding:
    best = at_best(frame.filter(activation=activation), "lr", "loss")

    return above(
        differences(best, "accuracy", "batchnorm", "plain"),
        0.0,
        "{} points with batch norm, each at its best rate",
        points,
    )


def _wider(activation: str, frame: pl.DataFrame) -> Finding:
    mine = frame.filter(activation=activation)
    top = pl.col("accuracy").max().over("arm", "seed")
    close = TRAINS & (pl.col("accuracy") >= top - CLOSE)
    widths = mine.with_columns(width=close.sum().over("arm", "seed") * _step(mine))

    return above(
        differences(widths, "width", "batchnorm", "plain"),
        0.0,
        "{} decades more within five points of the best accuracy",
        "{:+.2f}".format,
    )


def _unmoved(curve: str, text: str, frame: pl.DataFrame) -> Finding:
    largest = frame.with_columns(pl.col(curve).list.last())

    return below(estimate(values(largest, curve, "batchnorm")), SMALL, text, power)


def _changes(frame: pl.DataFrame) -> pl.DataFrame:
    """A row per seed, factor and quantity, of the ReLU networks, which no rate has touched yet."""
    first = frame.filter(pl.col("lr") == pl.col("lr").min(), activation="relu")
    names = {"moved": "outputs", "bent": "gradient × factor"}
    long = first.explode("factor", *names).unpivot(
        list(names), index=["arm", "seed", "factor"], variable_name="of", value_name="change"
    )

    return long.with_columns(pl.col("of").replace(names))


def _questions(activation: str, label: str) -> tuple[Question, ...]:
    return (
        Question(
            f"A {label} network trains at higher learning rates with batch norm.",
            PAPER.format("section 3.3"),
            "holds if the ratio of the highest rates that end below half the loss of a constant "
            "guess is above 1, the interval widened by the grid’s factor; undecided if a seed "
            "trains at no rate",
            partial(_higher, activation),
            "Inception with ReLU on ImageNet: 0.045 with it; without it 0.0075 was too high "
            "(section 4.2.2)",
        ),
        Question(
            f"With batch norm a {label} network ends more accurate, each at its own best rate.",
            PAPER.format("section 4.2.2"),
            "holds if the difference is above 0; the best rate has the lowest training loss",
            partial(_better, activation),
            "Inception with ReLU on ImageNet: 72.2 % without it, 74.8 % with it at 30 times the "
            "rate",
        ),
        Question(
            f"With batch norm the rate of a {label} network matters less.",
            "Arora, Li & Lyu 2018, abstract, https://arxiv.org/abs/1812.03981",
            "holds if the rates that train to within five points of an arm’s best accuracy span "
            "more decades with it",
            partial(_wider, activation),
        ),
    )


QUESTIONS = (
    *_questions("relu", "ReLU"),
    *_questions("sigmoid", "sigmoid"),
    Question(
        "With batch norm the scale of the weights does not matter: 100 times as large, they "
        "are the same function.",
        PAPER.format("section 3.3"),
        "holds if outputs move by less than one percent; what is left comes from eps",
        partial(_unmoved, "moved", "outputs move by {} of their norm"),
    ),
    Question(
        "With batch norm larger weights have smaller gradients: 100 times as large, a hundredth.",
        PAPER.format("section 3.3"),
        "holds if the gradient times 100 is within one percent of what it was",
        partial(_unmoved, "bent", "they differ by {}"),
    ),
)
CHARTS = (
    Chart(
        "rates",
        "Accuracy over learning rates",
        "Where a line is high the rate is right. The further right it falls, the higher are "
        "the rates that train.",
        "lines",
        Axis("lr", "learning rate", "log"),
        Axis("accuracy", "test accuracy", format=".0%", domain=(0.0, 1.0)),
        columns="activation",
    ),
    Chart(
        "scale",
        "Weights multiplied",
        "How much a factor on all hidden weights changes what a ReLU network computes. With "
        "batch norm only eps is left, which matters for small weights.",
        "lines",
        Axis("factor", "factor on the hidden weights", "log"),
        Axis("change", "relative change", "log", ".0e"),
        columns="of",
        rows=_changes,
    ),
)
