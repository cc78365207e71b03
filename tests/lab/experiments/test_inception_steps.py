"""Steps to Inception's accuracy: recipes as the paper has them, and ladders made by hand."""

import math
from dataclasses import fields, replace

import polars as pl
import pytest
import torch

from batchnorm.lab.data import load
from batchnorm.lab.experiments._inception_claims import CHARTS, reached
from batchnorm.lab.experiments.inception_steps import (
    BATCH,
    CHANGED,
    EXPERIMENT,
    INCEPTION,
    RECIPES,
    UNDONE,
    _fixed,
)

from .planted import verdict

STEPS = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def trial(arm: str, seed: int, reach: int, best: float, **changes: object) -> dict:
    """A network that is at chance before `reach` and has its best accuracy from there on."""
    return {
        "arm": arm,
        "seed": seed,
        "undone": "nothing",
        "steps": 100,
        "best": best,
        "loss": 1.0,
        "constant_loss": 2.3,
        "constant_accuracy": 0.1,
        "step": STEPS,
        "accuracy": [best if step >= reach else 0.1 for step in STEPS],
    } | changes


def ladder(**changed: tuple[int, float]) -> list[dict]:
    arms = dict.fromkeys(EXPERIMENT.arms, (100, 0.1)) | {"inception": (90, 0.7)}
    arms |= {arm.replace("_", "-"): found for arm, found in changed.items()}
    return [
        trial(arm, seed, reach - 10 * (seed == 0) * (reach > 10), best)
        for arm, (reach, best) in arms.items()
        for seed in range(4)
    ]


def test_every_change_of_the_paper_can_be_undone():
    differing = {
        field.name
        for field in fields(CHANGED)
        if getattr(CHANGED, field.name) != getattr(INCEPTION, field.name)
    }

    assert differing - {"norm"} == set(UNDONE)
    assert len(UNDONE) == 7
    assert RECIPES["x5"] == CHANGED
    assert RECIPES["baseline"] == replace(INCEPTION, norm=True)
    assert [RECIPES[arm].rate for arm in ("inception", "x5", "x30")] == [1, 5, 30]
    assert INCEPTION.l2 == pytest.approx(5 * CHANGED.l2)
    assert 6 * INCEPTION.halvings == CHANGED.halvings
    assert set(RECIPES) == set(EXPERIMENT.arms)


def test_changes_are_undone_in_one_network_only():
    assert EXPERIMENT.keep("x5", {"undone": "dropout"})
    assert not EXPERIMENT.keep("x30", {"undone": "dropout"})
    assert EXPERIMENT.keep("x30", {"undone": "nothing"})


def test_fixed_batches_hold_every_image_once_in_order():
    data = load("digits")
    fixed = _fixed(data)
    whole = len(data.x_train) // BATCH * BATCH

    assert fixed.x_train.shape == (whole // BATCH, BATCH, 1, 8, 8)
    assert torch.equal(fixed.x_train.flatten(0, 1), data.x_train[:whole])
    assert torch.equal(fixed.y_train.flatten(), data.y_train[:whole])
    assert fixed.x_test is data.x_test


def test_the_first_step_with_the_rivals_best_accuracy_counts():
    frame = pl.DataFrame(
        [
            trial("inception", 0, 80, 0.7),
            trial("baseline", 0, 30, 0.7),
            trial("x5", 0, 20, 0.6),
            trial("x30", 0, 10, 0.9, accuracy=[0.9] * len(STEPS)),
            trial("x5", 0, 60, 0.9, undone="rate"),
        ]
    )
    found = reached(frame).sort("arm", "undone").select("arm", "undone", "reach").rows()

    assert found == [
        ("baseline", "nothing", 30),
        ("inception", "nothing", 80),
        ("x30", "nothing", 10),
        ("x5", "nothing", 100),
        ("x5", "rate", 60),
    ]
    networks = CHARTS[0].rows(frame)["network"].to_list()
    assert networks.count("BN-x5") == 1
    assert "BN-x5, rate as it was" in networks


def test_a_network_that_diverged_at_once_has_all_of_its_steps():
    nothing = {"step": [0], "accuracy": [0.1], "loss": math.inf}
    frame = pl.DataFrame(
        [trial("inception", 0, 50, 0.7), trial("inception-x5", 0, 0, 0.1, **nothing)]
    )

    assert reached(frame).sort("arm")["reach"].to_list() == [50, 100]


@pytest.mark.parametrize(
    ("words", "holds", "fails"),
    [
        ("alone", {"baseline": (30, 0.7)}, {"baseline": (70, 0.7)}),
        ("a fifth", {"x5": (10, 0.7)}, {"x5": (40, 0.7)}),
        (
            "beyond",
            {"x5": (20, 0.7), "baseline": (60, 0.7)},
            {"x5": (60, 0.7), "baseline": (20, 0.7)},
        ),
        ("slower", {"x30": (50, 0.7), "x5": (20, 0.7)}, {"x30": (20, 0.7), "x5": (50, 0.7)}),
        ("best accuracy is higher", {"x30": (50, 0.8)}, {"x5": (50, 0.8)}),
        ("learns with sigmoids", {"x5_sigmoid": (50, 0.6)}, {"x5_sigmoid": (50, 0.12)}),
        ("stays at chance", {"inception_sigmoid": (50, 0.12)}, {"inception_sigmoid": (50, 0.6)}),
    ],
)
def test_ladders_made_by_hand_have_their_verdicts(words, holds, fails):
    assert verdict(EXPERIMENT, words, ladder(**holds)) == "holds"
    assert verdict(EXPERIMENT, words, ladder(**fails)) == "fails"


def test_a_tie_is_undecided():
    assert verdict(EXPERIMENT, "beyond", ladder(x5=(50, 0.7), baseline=(50, 0.7))) == "undecided"


@pytest.mark.parametrize(("loss", "found"), [(math.inf, "holds"), (2.3, "holds"), (0.5, "fails")])
def test_a_loss_of_guessing_is_no_training(loss, found):
    four = [row | ({"loss": loss} if row["arm"] == "inception-x5" else {}) for row in ladder()]
    eight = [row | {"seed": row["seed"] + more} for more in (0, 4) for row in four]

    assert verdict(EXPERIMENT, "does not train", four) == "undecided"
    assert verdict(EXPERIMENT, "does not train", eight) == found
