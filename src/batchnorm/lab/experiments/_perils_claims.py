"""What the experiment with two domains decides, and its charts."""

import statistics

import polars as pl

from .._chart import Axis, Chart
from .._experiment import Question
from .._rules import above, at_best, below, differences, values
from ..summary import Estimate, difference
from ..words import points

__all__ = ["CHARTS", "QUESTIONS"]

POINT = 0.01
POST = (
    "Irpan 2017, On The Perils of Batch Norm, "
    "https://www.alexirpan.com/2017/04/26/perils-batch-norm.html"
)
WU = "Wu & Johnson 2021, section 5, https://arxiv.org/abs/2105.07576"


def _best(trials: pl.DataFrame) -> pl.DataFrame:
    """Each arm at the rate with the lowest training loss."""
    return at_best(trials, "lr", "loss")


def _gap(trials: pl.DataFrame, arm: str, other: str, measured: str = "accuracy") -> Estimate:
    return differences(_best(trials), measured, arm, other)


def _restless(trials: pl.DataFrame) -> Estimate:
    """How much farther runs of one domain at a time lie from their median than merged ones."""
    distances = []
    for arm in ("shared", "merged"):
        found = values(_best(trials), "accuracy", arm)
        distances.append([abs(value - statistics.median(found)) for value in found])

    return difference(*distances)


def _looks(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per look."""
    return _best(trials).select("arm", "seed", "step", "curve").explode("step", "curve")


def _modes(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per mode."""
    named = {"accuracy": "eval mode", "train_mode": "training mode"}

    return _long(trials, named, "mode")


def _domains(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per domain."""
    return _long(trials, {"first": "first domain", "second": "second domain"}, "domain")


def _long(trials: pl.DataFrame, named: dict[str, str], kind: str) -> pl.DataFrame:
    chosen = _best(trials).rename(named)

    return chosen.unpivot(
        list(named.values()), index=["arm", "seed"], variable_name=kind, value_name="share"
    )


QUESTIONS = (
    Question(
        "One batch norm that is trained on one domain at a time loses accuracy in eval mode, "
        "against batches of both.",
        POST,
        "holds if it is less accurate than with merged batches",
        lambda trials: below(
            _gap(trials, "shared", "merged"), 0.0, "{} points against merged batches", points
        ),
        published="0.7627 against 0.7825 (read off the figure; two datasets of the author’s)",
    ),
    Question(
        "In training mode a network that sees one domain at a time is as good as any: the fault is "
        "in the running statistics.",
        POST,
        "holds if it loses less than a percentage point against merged batches in that mode",
        lambda trials: above(
            _gap(trials, "shared", "merged", "train_mode"),
            -POINT,
            "{} points against merged batches, in training mode",
            points,
        ),
    ),
    Question(
        "Runs with one domain at a time differ more from each other in accuracy.",
        POST,
        "holds if their accuracies lie farther from their median than those of merged batches",
        lambda trials: above(_restless(trials), 0.0, "{} points farther from the median", points),
        published="ends of five runs: 0.744 to 0.778, with merged batches 0.777 to 0.787 "
        "(read off the figure)",
    ),
    Question(
        "With a batch norm for each domain nothing is lost.",
        POST,
        "holds if less than a percentage point is lost against merged batches",
        lambda trials: above(
            _gap(trials, "separate", "merged"),
            -POINT,
            "{} points against merged batches",
            points,
        ),
        published="0.7870 against 0.7825 (read off the figure)",
    ),
    Question(
        "Measuring the running statistics anew for each domain repairs the trained network as "
        "well as a batch norm for each does.",
        WU,
        "holds if the recalibrated network loses less than a percentage point against a batch "
        "norm for each",
        lambda trials: above(
            _gap(trials, "recalibrated", "separate"),
            -POINT,
            "{} points against a batch norm for each",
            points,
        ),
    ),
)

CHARTS = (
    Chart(
        "modes",
        "Training mode and eval mode",
        "The same networks by the statistics of the test batch and by running statistics; only the "
        "latter are recalibrated.",
        "points",
        Axis("mode", "mode", scale="ordinal"),
        Axis("share", "test accuracy", format=".0%"),
        rows=_modes,
    ),
    Chart(
        "training",
        "Accuracy over training",
        "Mean of both domains, in eval mode, on the test part.",
        "lines",
        Axis("step", "steps"),
        Axis("curve", "test accuracy", format=".0%"),
        rows=_looks,
    ),
    Chart(
        "domains",
        "Which domain pays",
        "In eval mode, at the end of training.",
        "points",
        Axis("domain", "domain", scale="ordinal"),
        Axis("share", "test accuracy", format=".0%"),
        rows=_domains,
    ),
)
