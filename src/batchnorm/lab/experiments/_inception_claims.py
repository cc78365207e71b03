"""What the paper says of Inception with batch norm, and its rules."""

import polars as pl

from .._chart import Axis, Chart
from .._experiment import Question
from .._rules import above, below, differences, values
from ..claims import Finding
from ..summary import Estimate, estimate, ratio, shares
from ..words import factor, percent, points

__all__ = ["ARMS", "CHARTS", "QUESTIONS", "reached"]

ARMS = {
    "inception": "Inception",
    "baseline": "BN-Baseline",
    "x5": "BN-x5",
    "x30": "BN-x30",
    "x5-sigmoid": "BN-x5-Sigmoid",
    "inception-x5": "Inception at 5 times the rate",
    "inception-sigmoid": "Inception with sigmoid",
}
TABLE = "Ioffe & Szegedy 2015, section 4.2.2, figure 3, https://arxiv.org/abs/1502.03167"


def _as_published(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the trials in which one change is undone."""
    return frame.filter(undone="nothing")


def reached(frame: pl.DataFrame) -> pl.DataFrame:
    """The trials with ``reach``: the first tested step with the best accuracy of Inception.

    Each trial is compared with Inception of its seed. One that does not get there has all of its
    steps: it needs more than that.
    """
    rivals = frame.filter(arm="inception", undone="nothing").select("seed", target="best")
    key = ["arm", "seed", "undone"]
    there = (pl.col("accuracy") >= pl.col("target")) & (pl.col("step") > 0)
    first = (
        frame.join(rivals, on="seed")
        .explode("step", "accuracy")
        .group_by(key)
        .agg(reach=pl.col("step").filter(there).min())
    )

    return frame.join(first, on=key).with_columns(pl.col("reach").fill_null(pl.col("steps")))


def _steps(frame: pl.DataFrame, arm: str, other: str) -> Estimate:
    """Steps of one over those of another."""
    found = reached(_as_published(frame))
    mine, theirs = (values(found, "reach", name) for name in (arm, other))

    return ratio([a / b for a, b in zip(mine, theirs, strict=True)])


def _alone(frame: pl.DataFrame) -> Finding:
    return below(_steps(frame, "baseline", "inception"), 0.5, "{} of Inception’s steps", factor)


def _five(frame: pl.DataFrame) -> Finding:
    return below(_steps(frame, "x5", "inception"), 0.2, "{} of Inception’s steps", factor)


def _changes(frame: pl.DataFrame) -> Finding:
    return below(_steps(frame, "x5", "baseline"), 1.0, "{} of BN-Baseline’s steps", factor)


def _thirty_slower(frame: pl.DataFrame) -> Finding:
    return above(_steps(frame, "x30", "x5"), 1.0, "{} of BN-x5’s steps", factor)


def _thirty_better(frame: pl.DataFrame) -> Finding:
    gained = differences(_as_published(frame), "best", "x30", "x5")

    return above(gained, 0.0, "{} points at best", points)


def _over_chance(frame: pl.DataFrame, arm: str) -> Estimate:
    trials = _as_published(frame).with_columns(over=pl.col("best") - pl.col("constant_accuracy"))

    return estimate(values(trials, "over", arm))


def _sigmoid(frame: pl.DataFrame) -> Finding:
    return above(_over_chance(frame, "x5-sigmoid"), 0.1, "{} points above chance", points)


def _sigmoid_without(frame: pl.DataFrame) -> Finding:
    over = _over_chance(frame, "inception-sigmoid")

    return below(over, 0.05, "{} points above chance at best", points)


def _too_fast(frame: pl.DataFrame) -> Finding:
    trials = _as_published(frame).filter(arm="inception-x5")
    lost = trials.select(pl.col("loss") >= pl.col("constant_loss")).to_series().to_list()

    return above(shares(lost), 0.5, "{} of the networks learn nothing", percent)


def _ladder(frame: pl.DataFrame) -> pl.DataFrame:
    label = pl.col("arm").replace_strict(ARMS)
    undone = pl.format("{}, {} as it was", label, "undone")
    whole = pl.col("undone") == "nothing"

    return reached(frame).with_columns(network=pl.when(whole).then(label).otherwise(undone))


def _curves(frame: pl.DataFrame) -> pl.DataFrame:
    curves = _as_published(frame).select("arm", "seed", "step", "accuracy")

    return curves.explode("step", "accuracy")


QUESTIONS = (
    Question(
        "Batch norm alone gets to Inception’s accuracy in less than half of the steps.",
        TABLE,
        "holds if the first tested step of BN-Baseline with the best accuracy of Inception comes "
        "before half of the step where Inception has it; without one it counts with all its steps",
        _alone,
        published="13.3 of 31.0 million steps, 0.43",
    ),
    Question(
        "With the paper’s changes and five times the rate a fifth of the steps is enough.",
        TABLE,
        "holds if BN-x5 needs less than a fifth of Inception’s steps",
        _five,
        published="2.1 of 31.0 million steps, 0.07",
    ),
    Question(
        "The paper’s changes save steps beyond batch norm itself.",
        TABLE,
        "holds if BN-x5 needs fewer steps than BN-Baseline",
        _changes,
        published="2.1 against 13.3 million steps, 0.16",
    ),
    Question(
        "At 30 times the rate training is a little slower than at 5 times.",
        TABLE,
        "holds if BN-x30 needs more steps than BN-x5",
        _thirty_slower,
        published="2.7 against 2.1 million steps, 1.3",
    ),
    Question(
        "At 30 times the rate the best accuracy is higher than at 5 times.",
        TABLE,
        "holds if the difference is above zero",
        _thirty_better,
        published="74.8 % against 73.0 %",
    ),
    Question(
        "With batch norm Inception learns with sigmoids.",
        TABLE,
        "holds if BN-x5-Sigmoid is more than ten points above chance at best",
        _sigmoid,
        published="69.8 %, of 1000 classes",
    ),
    Question(
        "Without batch norm Inception with sigmoids stays at chance.",
        TABLE,
        "holds if it is less than five points above chance at best",
        _sigmoid_without,
        published="“remained at the accuracy equivalent to chance”",
    ),
    Question(
        "Without batch norm Inception does not train at five times its rate.",
        TABLE,
        "holds if in more than half of the trials the training loss ends no lower than that of a "
        "constant prediction",
        _too_fast,
        published="“caused the model parameters to reach machine infinity”",
    ),
)

CHARTS = (
    Chart(
        key="ladder",
        title="Steps to Inception’s best accuracy",
        caption="The first tested step at which each network is as accurate as Inception of the "
        "same seed at its best. A bar that ends at the last step never gets there.",
        mark="bars",
        x=Axis("network", "network", scale="ordinal"),
        y=Axis("reach", "steps"),
        rows=_ladder,
    ),
    Chart(
        key="curves",
        title="Accuracy over steps",
        caption="Test accuracy on the way, as in the paper’s figure 2.",
        mark="lines",
        x=Axis("step", "step"),
        y=Axis("accuracy", "test accuracy", format=".0%"),
        rows=_curves,
    ),
)
