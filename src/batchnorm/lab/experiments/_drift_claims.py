"""What the experiment with corrupted images decides, and its charts."""

import math

import polars as pl

from .._chart import Axis, Chart
from .._experiment import Question
from .._rules import above, differences, values
from ..summary import Estimate, difference
from ..words import points

__all__ = ["CHARTS", "QUESTIONS"]

POINT = 0.01
SCHNEIDER = "Schneider et al. 2020, https://arxiv.org/abs/2006.16971"
LI = "Li et al. 2017, https://arxiv.org/abs/1603.04779"
NADO = "Nado et al. 2020, https://arxiv.org/abs/2006.10963"
WANG = "Wang et al. 2021, https://arxiv.org/abs/2006.10726"


def _over_examples(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per number of examples."""
    chosen = trials.select("arm", "seed", "corruption", "examples", "by_examples")

    return chosen.explode("examples", "by_examples")


def _over_severities(trials: pl.DataFrame) -> pl.DataFrame:
    """A row per severity."""
    chosen = trials.select("arm", "seed", "corruption", "severity", "by_severity")

    return chosen.explode("severity", "by_severity")


def _few(trials: pl.DataFrame, arm: str, other: str, examples: int) -> Estimate:
    """`arm` minus `other`, both adapted to so many examples."""
    chosen = _over_examples(trials).filter(examples=examples)

    return differences(chosen, "by_examples", arm, other)


def _more(trials: pl.DataFrame, few: int, many: int) -> Estimate:
    """New statistics from `few` examples minus those from `many`."""
    rows = _over_examples(trials)
    found = [values(rows, "by_examples", "adabn", examples=count) for count in (few, many)]

    return difference(*found)


def _repaired(trials: pl.DataFrame) -> list[float]:
    """The share of what was lost that new statistics give back, seed by seed."""
    clean, corrupted = (values(trials, measured, "source") for measured in ("clean", "accuracy"))
    gains = differences(trials, "accuracy", "adabn", "source").values
    lost = [a - b for a, b in zip(clean, corrupted, strict=True)]

    return [g / loss if loss > 0 else math.nan for g, loss in zip(gains, lost, strict=True)]


def _hidden_less(trials: pl.DataFrame) -> Estimate:
    """How much smaller that share is where a part is hidden."""
    hidden = pl.col("corruption") == "occlusion"
    shares = [_repaired(trials.filter(chosen)) for chosen in (~hidden, hidden)]

    return difference(*shares)


QUESTIONS = (
    Question(
        "Statistics measured anew on unlabelled corrupted images raise accuracy on such images.",
        f"{LI}; {SCHNEIDER}",
        "holds if accuracy by the statistics of 256 images is higher, in the mean of all "
        "corruptions and severities",
        lambda trials: above(
            differences(trials, "accuracy", "adabn", "source"),
            0.0,
            "{} points against training’s statistics",
            points,
        ),
        published="ResNet-50 on ImageNet-C: mean corruption error 76.7 → 62.2 (Schneider et al.)",
    ),
    Question(
        "With a handful of examples old and new statistics mixed are better than new ones alone.",
        SCHNEIDER,
        "holds if 4 images of medium severity give higher accuracy when the old statistics count "
        "as 16 more",
        lambda trials: above(
            _few(trials, "mix", "adabn", 4), 0.0, "{} points against new ones alone", points
        ),
    ),
    Question(
        "A few dozen unlabelled images suffice.",
        SCHNEIDER,
        "holds if 32 images lose less than two percentage points against 256, at medium severity",
        lambda trials: above(
            _more(trials, 32, 256), -2 * POINT, "{} points against 256 images", points
        ),
    ),
    Question(
        "Minimising the entropy of the predictions (TENT) gains more than new statistics alone.",
        f"{WANG}; the numbers: https://github.com/DequanWang/tent",
        "holds if accuracy is higher with it, in the mean of all corruptions and severities",
        lambda trials: above(
            differences(trials, "accuracy", "tent", "adabn"),
            0.0,
            "{} points against new statistics alone",
            points,
        ),
        published="WRN-28-10 on CIFAR-10-C, severity 5: error 43.5 % by training’s statistics, "
        "20.4 % by new ones, 18.6 % by TENT",
    ),
    Question(
        "Where nothing has moved, new statistics cost less than a percentage point.",
        f"{NADO}, whose method this is",
        "holds if clean images lose less than that by the statistics of 256 of them",
        lambda trials: above(
            differences(trials, "clean", "adabn", "source"),
            -POINT,
            "{} points on clean images",
            points,
        ),
    ),
    Question(
        "Statistics cannot repair what hides a part of the image as they repair what changes all "
        "pixels.",
        SCHNEIDER,
        "holds if they give back a smaller share of the lost accuracy under occlusion than under "
        "the other corruptions",
        lambda trials: above(
            _hidden_less(trials), 0.0, "{} points more of it under the other corruptions", points
        ),
    ),
)

CHARTS = (
    Chart(
        "corruptions",
        "Accuracy on corrupted images",
        "Mean of three severities; adapted to 256 other images of the same kind, without labels.",
        "bars",
        Axis("corruption", "corruption", scale="ordinal"),
        Axis("accuracy", "test accuracy", format=".0%"),
    ),
    Chart(
        "examples",
        "How many images it takes",
        "Test accuracy at medium severity.",
        "lines",
        Axis("examples", "unlabelled images", scale="log"),
        Axis("by_examples", "test accuracy", format=".0%"),
        columns="corruption",
        rows=_over_examples,
    ),
    Chart(
        "severity",
        "How far the images may move",
        "Severity 0 is the clean image. Adapted to 256 images.",
        "lines",
        Axis("severity", "severity"),
        Axis("by_severity", "test accuracy", format=".0%"),
        columns="corruption",
        rows=_over_severities,
    ),
)
