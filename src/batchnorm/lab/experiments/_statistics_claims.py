"""What the experiment with statistics at test time decides, and its charts."""

import polars as pl

from .._chart import Axis, Chart
from .._experiment import Question
from .._rules import above, below, between, differences
from ..summary import Estimate
from ..words import points

__all__ = ["CHARTS", "QUESTIONS"]

POINT = 0.01
IOFFE = "Ioffe & Szegedy 2015, section 3.1, https://arxiv.org/abs/1502.03167"
WU = "Wu & Johnson 2021, section 3, https://arxiv.org/abs/2105.07576"
NADO = "Nado et al. 2020, https://arxiv.org/abs/2006.10963"
SCHNEIDER = (
    "Schneider et al. 2020, https://arxiv.org/abs/2006.16971, who mix in training’s statistics"
)
TENSORFLOW = (
    "TensorFlow 1.15, tf.contrib.layers.batch_norm, "
    "https://www.tensorflow.org/versions/r1.15/api_docs/python/tf/contrib/layers/batch_norm"
)


def _gap(
    trials: pl.DataFrame, arm: str, other: str, rate: str, measured: str = "accuracy"
) -> Estimate:
    return differences(trials, measured, arm, other, rate=rate)


def _gap_at(trials: pl.DataFrame, size: int) -> Estimate:
    """By test batches of this size, against statistics measured anew."""
    chosen = trials.explode("test_batch", "by_test_batch").filter(test_batch=size)

    return _gap(chosen, "batch", "recalibrated", "falling", "by_test_batch")


def _over_training(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per look."""
    return trials.select("arm", "seed", "rate", "step", "curve").explode("step", "curve")


def _over_test_batches(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per size, after training at a falling rate."""
    chosen = trials.filter(rate="falling").select("arm", "seed", "test_batch", "by_test_batch")

    return chosen.explode("test_batch", "by_test_batch")


QUESTIONS = (
    Question(
        "With a moving average the network can be followed while it trains.",
        IOFFE,
        "holds if, in the mean of all looks after 32 steps at a constant rate, its accuracy is "
        "within a percentage point of that by statistics measured anew",
        lambda trials: between(
            _gap(trials, "usual", "recalibrated", "constant", "mean"),
            -POINT,
            POINT,
            "{} points against statistics measured anew",
            points,
        ),
    ),
    Question(
        "While the rate is high, statistics measured anew are better than the moving average.",
        WU,
        "holds if, in the mean of all looks after 32 steps at a constant rate, accuracy by them is "
        "higher",
        lambda trials: above(
            _gap(trials, "recalibrated", "usual", "constant", "mean"),
            0.0,
            "{} points more than by the moving average",
            points,
        ),
    ),
    Question(
        "When the rate has fallen to zero the moving average is as good as statistics measured "
        "anew.",
        WU,
        "holds if its accuracy at the end is within a percentage point of that by statistics "
        "measured anew",
        lambda trials: between(
            _gap(trials, "usual", "recalibrated", "falling"),
            -POINT,
            POINT,
            "{} points against statistics measured anew",
            points,
        ),
    ),
    Question(
        "A decay of 0.999 (momentum 0.001) makes eval mode poor after a short training; 0.9 "
        "(momentum 0.1) cures it.",
        TENSORFLOW,
        "holds if momentum 0.1 gains more than ten percentage points, at the end of a falling rate",
        lambda trials: above(
            _gap(trials, "usual", "slowest", "falling"),
            0.1,
            "{} points more with momentum 0.1",
            points,
        ),
    ),
    Question(
        "An average of all batches is worse than a moving one: it remembers networks that are "
        "gone.",
        f"{WU}, of averages that are out of date",
        "holds if it is less accurate than momentum 0.1 at the end of a falling rate",
        lambda trials: below(
            _gap(trials, "cumulative", "usual", "falling"),
            0.0,
            "{} points against the moving average",
            points,
        ),
    ),
    Question(
        "Large test batches can be normalised by their own statistics.",
        NADO,
        "holds if accuracy by test batches of 256 is within a percentage point of that by "
        "statistics measured anew",
        lambda trials: between(
            _gap_at(trials, 256),
            -POINT,
            POINT,
            "{} points against statistics measured anew",
            points,
        ),
    ),
    Question(
        "Small test batches cannot be normalised by their own statistics.",
        SCHNEIDER,
        "holds if accuracy by test batches of 4 is more than a percentage point below that by "
        "statistics measured anew",
        lambda trials: below(
            _gap_at(trials, 4), -POINT, "{} points against statistics measured anew", points
        ),
    ),
)

CHARTS = (
    Chart(
        "training",
        "Accuracy over training, by kind of statistics",
        "The same weights at every step.",
        "lines",
        Axis("step", "steps", scale="log"),
        Axis("curve", "test accuracy", format=".0%"),
        columns="rate",
        rows=_over_training,
    ),
    Chart(
        "test-batch",
        "Accuracy by size of the test batch",
        "At the end of a falling rate. Running statistics do not depend on the batch.",
        "lines",
        Axis("test_batch", "images in a test batch", scale="log"),
        Axis("by_test_batch", "test accuracy", format=".0%"),
        rows=_over_test_batches,
    ),
    Chart(
        "loss",
        "Test loss at the end",
        "It tells apart what accuracy does not.",
        "points",
        Axis("rate", "learning rate", scale="ordinal"),
        Axis("loss", "test loss (nats)", scale="log"),
    ),
)
