"""What the experiment on depth decides, and its charts."""

import math
from collections.abc import Sequence
from functools import partial

import polars as pl

from .._chart import Axis, Chart
from .._ending import TRAINS
from .._experiment import Question
from .._rules import above, at_best, below, between, highest, values
from ..claims import Finding
from ..summary import estimate, ratio, shares
from ..words import percent

__all__ = ["ARMS", "CHARTS", "DEEPEST", "EXPLOSION", "QUESTIONS"]

PAPER = "Ioffe & Szegedy 2015, {}, https://arxiv.org/abs/1502.03167"
YANG = "Yang et al. 2019, {}, https://arxiv.org/abs/1902.08129"
ARMS = {"plain": "no norm", "batchnorm": "batch norm"}
LABELS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
DEEPEST = 100
EXPLOSION = math.sqrt(math.pi / (math.pi - 1))
CLOSE = 0.05
KEPT = 2 ** (1 / DEEPEST) - 1  # in each layer
SEEN = 1e15


def _starts(frame: pl.DataFrame) -> pl.DataFrame:
    """The networks that are looked at."""
    return frame.filter(pl.col("lr") == 0)


def _keeps(activation: str, frame: pl.DataFrame) -> Finding:
    grown = values(_starts(frame), "growth", "batchnorm", activation=activation, gain=1.0)

    return _near(1.0, KEPT, grown, "multiplied by {} in each layer")


def _as_predicted(frame: pl.DataFrame) -> Finding:
    grown = values(_starts(frame), "growth", "batchnorm", activation="relu", gain=1.0)

    return _near(EXPLOSION, 0.03, grown, "multiplied by {} in each layer")


def _gain_is_free(frame: pl.DataFrame) -> Finding:
    start = _starts(frame)
    gains = start["gain"]
    low, high = (
        values(start, "growth", "batchnorm", gain=gain) for gain in (gains.min(), gains.max())
    )
    changes = [b / a for a, b in zip(low, high, strict=True)]

    return _near(1.0, CLOSE, changes, "{} times the factor at the highest gain")


def _near(expected: float, share: float, factors: Sequence[float], text: str) -> Finding:
    low, high = expected * (1 - share), expected * (1 + share)

    return between(ratio(factors), low, high, text, "{:.3f}".format)


def _trained(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame.filter(pl.col("lr") > 0), "lr", "loss", per=("activation", "depth"))


def _deeper(activation: str, frame: pl.DataFrame) -> Finding:
    mine = _trained(frame).filter(activation=activation)
    plain, normed = (
        [depth or 0.0 for depth in highest(mine, "depth", arm, TRAINS)]
        for arm in ("plain", "batchnorm")
    )
    ends = f"up to {max(plain):g} layers without, {max(normed):g} with it"
    found = estimate([n - p for p, n in zip(plain, normed, strict=True)])

    return above(found, 0.0, f"{ends}: {{}} more", "{:+.1f}".format)


def _too_deep(frame: pl.DataFrame) -> Finding:
    deepest = _trained(frame).filter(depth=DEEPEST, arm="batchnorm")
    train = deepest.select(TRAINS).to_series().to_list()
    text = f"{{}} of {len(train)} networks train in {deepest['steps'][0]} steps"

    return below(shares(train), 0.5, text, percent)


def _by_layer(curve: str, frame: pl.DataFrame) -> pl.DataFrame:
    arm = pl.col("arm").replace(ARMS)
    rows = _starts(frame).explode("layer", curve)

    return rows.filter(pl.col(curve).is_between(1 / SEEN, SEEN)).select(
        "seed", "activation", "layer", curve, series=pl.format("{}, gain {}", arm, "gain")
    )


QUESTIONS = (
    *(
        Question(
            f"With batch norm the gradient keeps its size through a hundred {label} layers.",
            PAPER.format("section 3.3, a conjecture: singular values close to 1"),
            "holds if it changes by less than a factor of 2 through all of them",
            partial(_keeps, name),
        )
        for name, label in LABELS.items()
    ),
    Question(
        "With batch norm and ReLU the gradient explodes: by √(π/(π−1)) ≈ 1.21 in each layer.",
        YANG.format("the theorem on ReLU, for wide layers and large batches"),
        "holds if the factor lies within three percent of that",
        _as_predicted,
        "π/(π−1) in each layer for the squared norm",
    ),
    Question(
        "With batch norm the gain of the starting weights does not change the gradient’s way.",
        PAPER.format("section 3.3"),
        "holds if the factor per layer differs by less than five percent between the lowest "
        "and the highest gain",
        _gain_is_free,
    ),
    *(
        Question(
            f"With batch norm deeper {label} networks train.",
            PAPER.format("section 1, of saturating nonlinearities; section 3.3"),
            "holds if the greatest depth that ends below half the loss of a constant guess is "
            "greater with it; 0 where no depth does",
            partial(_deeper, name),
        )
        for name, label in LABELS.items()
    ),
    Question(
        "In the steps that train shallow networks, networks of 100 layers with batch norm and "
        "without shortcuts do not train.",
        YANG.format("abstract"),
        "holds if less than half of them end below half the loss of a constant guess",
        _too_deep,
        "ReLU networks of more than about 50 layers did not, on MNIST",
    ),
)
CHARTS = (
    Chart(
        "gradients",
        "Gradients by depth",
        "From right to left the gradient goes back through the layers, at the start. A line "
        "that rises to the left explodes, one that falls vanishes; beyond 10¹⁵ none is drawn.",
        "lines",
        Axis("layer", "hidden layer"),
        Axis("gradients", "gradient, relative to the last layer", "log", ".0e"),
        colour="series",
        columns="activation",
        rows=partial(_by_layer, "gradients"),
    ),
    Chart(
        "depth",
        "How deep still trains",
        "Each point at the learning rate with the lowest training loss.",
        "lines",
        Axis("depth", "hidden layers", "log"),
        Axis("accuracy", "test accuracy", format=".0%", domain=(0.0, 1.0)),
        columns="activation",
        rows=_trained,
    ),
    Chart(
        "activations",
        "Activations by depth",
        "How far each layer’s outputs spread over examples, at the start.",
        "lines",
        Axis("layer", "hidden layer"),
        Axis("activations", "spread, relative to the first layer", "log", ".0e"),
        colour="series",
        columns="activation",
        rows=partial(_by_layer, "activations"),
    ),
)
