"""A study that was never run: every kind of chart and verdict, and text that means harm."""

import itertools

import polars as pl

from batchnorm.lab import Axis, Chart, Experiment, Grid, Question, Study, above, differences, values
from batchnorm.lab._study import judged
from batchnorm.lab.environment import Environment
from batchnorm.lab.summary import estimate

HOSTILE = "</script><img src=x onerror='window.broken=1'> & <b>bold</b>"
ARMS = {"none": "no norm", "batch": "batch norm", "group": f"group norm {HOSTILE}"}
RATES = (0.01, 0.1, 1.0)
STEPS = tuple(range(0, 500, 10))
SCORE = {"none": 0.5, "batch": 0.9, "group": 0.7}
MACHINE = Environment("2026-01-02 03:04 UTC", "a machine", "3.13", {"torch": "2"}, "c0de", "native")


def curves(trials: pl.DataFrame) -> pl.DataFrame:
    return trials.filter(lr=0.1).explode("step", "curve")


def bands(trials: pl.DataFrame) -> pl.DataFrame:
    middle = pl.col("curve") - 0.5
    found = curves(trials).with_columns(middle=middle, low=middle - 0.2, high=middle + 0.3)

    return found.filter(pl.col("arm") != "group")


ACCURACY = Axis("accuracy", "test accuracy", format=".0%")
RATE = Axis("lr", "learning rate", "log")
CHARTS = (
    Chart(
        "training",
        f"Training {HOSTILE}",
        f"Mean and range over seeds {HOSTILE}.",
        "lines",
        Axis("step", "training step"),
        Axis("curve", "test accuracy", format=".0%", domain=(0, 1)),
        rows=curves,
    ),
    Chart("final", "Final", "At the end.", "bars", Axis("arm", "norm", "ordinal"), ACCURACY),
    Chart("rates", "By rate", "At the end.", "points", RATE, ACCURACY),
    Chart(
        "map",
        "Both",
        "Darker is worse.",
        "heat",
        Axis("lr", "learning rate", "ordinal"),
        Axis("arm", "norm", "ordinal"),
        value=ACCURACY,
    ),
    Chart(
        "inputs",
        "Inputs",
        "Low, middle and high.",
        "bands",
        Axis("step", "training step"),
        Axis("middle", "input"),
        columns="arm",
        rows=bands,
    ),
)


def question(statement: str, arm: str, threshold: float) -> Question:
    return Question(
        statement,
        "Somebody 2020, section 1, https://example.org/a?b=1&c=2",
        f"holds if the difference is above {threshold}",
        lambda frame: above(
            differences(frame, "accuracy", arm, "none"), threshold, f"{{}} more with {arm} norm"
        ),
        published="0.4 more",
    )


def experiment(name: str = "made-up", title: str = f"Made up {HOSTILE}") -> Experiment:
    return Experiment(
        name=name,
        title=title,
        about=f"Nothing is done {HOSTILE}.",
        arms=ARMS,
        budgets={"smoke": Grid(3, ("near", "far"), {"lr": RATES, "note": (HOSTILE,)}, 1.0)},
        measured={"accuracy": "test accuracy", "curve": "the same over steps", "step": "when"},
        questions=(
            question(f"Batch norm helps {HOSTILE}.", "batch", 0.2),
            question("Group norm helps a lot.", "group", 0.3),
            Question(
                "Nothing is certain.",
                "Nobody",
                "holds if the accuracy is above 0.5",
                lambda frame: above(
                    estimate(values(frame, "accuracy", "none", lr=0.1)), 0.5, "accuracy {}"
                ),
            ),
        ),
        charts=CHARTS,
        measure=lambda _trial, _data: {},
    )


def study(made: Experiment | None = None) -> Study:
    """Two datasets, three seeds, three rates; the far data is a little worse."""
    made = made or experiment()
    trials = pl.DataFrame(
        [
            _trial(*chosen)
            for chosen in itertools.product(made.arms, ("near", "far"), range(3), RATES)
        ]
    )
    titles = {"near": "Near data", "far": f"Far data {HOSTILE}"}
    claims = tuple(judged(one, trials, titles) for one in made.questions)
    left_out = {"away": "no folder"}

    return Study(
        made, "smoke", made.budgets["smoke"], trials, claims, titles, left_out, MACHINE, 4, 12.5
    )


def _trial(arm: str, dataset: str, seed: int, lr: float) -> dict[str, object]:
    score = SCORE[arm] + (seed - 1) / 50 - (dataset == "far") / 10 - (lr == 1.0) / 10
    curve = [score * (1 - 0.9 ** (step / 10)) for step in STEPS]

    return {
        "arm": arm,
        "dataset": dataset,
        "seed": seed,
        "lr": lr,
        "note": HOSTILE,
        "accuracy": score,
        "curve": curve,
        "step": list(STEPS),
        "seconds": 1.0,
    }
