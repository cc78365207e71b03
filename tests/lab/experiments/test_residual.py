"""Residual networks: what a branch adds in a block made by hand, and verdicts of planted trials."""

import pytest
import torch
from torch import nn

import batchnorm
from batchnorm.lab import Trial
from batchnorm.lab.data import load
from batchnorm.lab.experiments.residual import EXPERIMENT, _branches, measure
from batchnorm.lab.models import PreActivationResNet

from .planted import verdict

X = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def net(blocks: int, norm: object = None, **options: object) -> PreActivationResNet:
    return PreActivationResNet(norm, seed=3, depths=(blocks,), width=32, channels=1, **options)


def test_a_branch_that_is_the_skip_connection_times_three_is_three():
    class Triple(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x

    made = net(2)
    for block in made.features[1]:
        block.before, block.body = nn.Identity(), Triple()

    assert _branches(made, X) == pytest.approx([3.0, 3.0])


def test_branches_are_as_large_as_the_paper_derives():
    normed, plain = net(16, batchnorm.BatchNorm2d), net(16)
    blocks = torch.arange(1, 17)

    # The skip connection's variance grows by 1 in every block, and doubles without norm.
    assert _branches(normed, X)[4:] == pytest.approx((blocks**-0.5)[4:].tolist(), rel=0.5)
    assert _branches(plain, X)[4:] == pytest.approx([1.0] * 12, rel=0.5)


def test_a_block_that_halves_the_size_is_measured_too():
    made = PreActivationResNet(None, seed=3, depths=(1, 2), width=8, channels=1)

    assert len(_branches(made, X)) == 3


def test_looking_at_branches_moves_no_statistics():
    made = net(1, batchnorm.BatchNorm2d)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    _branches(made, X)

    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_a_branch_scaled_by_zero_adds_nothing_at_first_and_learns():
    made = net(3, skip_init=True)

    assert _branches(made, X) == [0.0] * 3
    nn.functional.cross_entropy(made(X), torch.arange(64) % 10).backward()
    assert all(block.body[-1].weight.grad.abs() > 0 for block in made.features[1])


@pytest.mark.parametrize("arm", EXPERIMENT.arms)
def test_every_block_is_measured(arm):
    data = load("digits")
    settings = {"depth": 2, "lr": 0.01, "steps": 2}
    found = measure(Trial("residual", arm, "digits", data.digest, 0, settings), data)

    assert found["block"] == [1, 2, 3, 4, 5, 6]
    assert found["last"] == found["branch"][1]


def rows(**changed: dict) -> list[dict]:
    """Trials at two rates and depths; what is said of an arm is for its deepest, at the better."""
    return [
        {
            "arm": arm,
            "seed": seed,
            "depth": depth,
            "lr": lr,
            "loss": lr,
            "accuracy": 0.5 if lr == 0.1 else 0.9,
            "last": 1.0,
        }
        | (changed.get(arm, {}) if depth == 16 and lr == 0.1 else {})
        for arm in EXPERIMENT.arms
        for depth in (4, 16)
        for lr in (0.1, 1.0)
        for seed in range(3)
    ]


def scattered(found: list[dict]) -> list[dict]:
    """With a difference between seeds that depends on the arm."""
    places = list(EXPERIMENT.arms)
    return [
        row | {"accuracy": row["accuracy"] + row["seed"] * places.index(row["arm"]) / 1000}
        for row in found
    ]


@pytest.mark.parametrize(
    ("words", "holds", "fails"),
    [
        ("deep residual network is more", {"batch": 0.9}, {"batch": 0.1}),
        ("each branch starts at zero", {"scalar": 0.9}, {"scalar": 0.1}),
        ("stands in", {"scalar": 0.9}, {"scalar": 0.1}),
    ],
)
def test_planted_accuracies_have_the_planted_verdict(words, holds, fails):
    found = [
        verdict(
            EXPERIMENT,
            words,
            scattered(rows(**{arm: {"accuracy": value} for arm, value in case.items()})),
        )
        for case in (holds, fails)
    ]

    assert found == ["holds", "fails"]


def test_what_does_not_differ_is_undecided():
    assert verdict(EXPERIMENT, "deep residual network is more", rows()) == "undecided"
    assert verdict(EXPERIMENT, "shallow", rows(batch={"accuracy": 0.9})) == "undecided"


def test_a_planted_branch_has_the_planted_verdict():
    def found(words: str, arm: str, last: float) -> str:
        planted = rows(**{arm: {"last": last}})
        for row in planted:
            row["last"] *= 1 + row["seed"] / 1000
        return verdict(EXPERIMENT, words, [row for row in planted if row["lr"] == 0.1])

    assert found("makes residual branches small", "batch", 0.25) == "holds"
    assert found("makes residual branches small", "batch", 1.0) == "fails"
    assert found("are alike", "none", 1.0) == "holds"
    assert found("are alike", "none", 0.25) == "fails"
