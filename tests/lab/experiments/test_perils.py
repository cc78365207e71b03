"""Two domains in one network: what the arms do, and the verdicts of planted accuracies."""

from dataclasses import replace

import pytest
import torch

from batchnorm.lab import Trial
from batchnorm.lab._domains import DomainNet, load_pair
from batchnorm.lab.data import load
from batchnorm.lab.experiments.perils import EXPERIMENT, _recalibrated, measure_together
from tests.lab.experiments.planted import verdict
from tests.tolerance import ulp

PAIR = "digits+digits_m"
ROUNDING = 1000 * ulp(torch.float32)


def trials(*arms):
    settings = {"lr": 0.2, "steps": 10}
    return [Trial("perils", arm, PAIR, "d", 0, settings) for arm in arms]


def test_pairs_share_no_image_and_are_equally_coloured():
    pair, grey, coloured = load_pair(PAIR), load("digits", size=8), load("digits_m", size=8)

    assert pair.x_train.shape == (600, 2, 3, 8, 8)
    assert pair.x_test.shape == (298, 2, 3, 8, 8)
    for channel in range(3):
        assert torch.equal(pair.x_train[:, 0, channel], grey.x_train[::2, 0])
    assert torch.equal(pair.x_train[:, 1], coloured.x_train[1::2])
    assert torch.equal(pair.y_train, grey.y_train.view(-1, 2))
    assert pair.digest not in (grey.digest, coloured.digest)


def test_an_unknown_pair_is_refused():
    with pytest.raises(ValueError, match=r"the pair must be known\. Got 'digits'\. Use one of"):
        load_pair("digits")


def test_one_domain_at_a_time_and_a_norm_for_each_train_alike():
    x = load_pair(PAIR).x_train[:16]
    merged, shared, separate = (
        DomainNet(way, seed=0, classes=10)(x) for way in ("merged", "shared", "separate")
    )

    assert torch.allclose(shared, separate, atol=ROUNDING)
    assert (merged - shared).abs().max() > 0.01


def test_a_norm_for_each_is_two_networks_in_eval_mode():
    """Each domain is normalised by the statistics it would have alone."""
    x = load_pair(PAIR).x_train[:16]
    net = DomainNet("separate", seed=0, classes=10)
    net(x)
    both = net.eval()(x)
    for domain in range(2):
        alone = DomainNet("merged", seed=0, classes=10)
        twice = x[:, [domain, domain]]
        alone(twice)
        # Of twice the images the unbiased variance is a little smaller.
        assert torch.allclose(alone.eval()(twice)[:, 0], both[:, domain], rtol=0.02, atol=0.02)


def test_recalibration_takes_a_domain_s_scale_away_and_is_undone():
    data = load_pair(PAIR)
    first = data.x_test[:, :1]
    louder = replace(
        data,
        x_train=torch.cat([data.x_train[:, :1], 3 * data.x_train[:, :1]], 1),
        x_test=torch.cat([first, 3 * first], 1),
    )
    net = DomainNet("shared", seed=0, classes=10)
    net(louder.x_train[:64])
    before = {name: held.clone() for name, held in net.state_dict().items()}

    found = _recalibrated(net, louder)

    # Not bit by bit: eps is added to variances nine times as large.
    assert torch.allclose(found[:, 0], found[:, 1], atol=0.01)
    with torch.no_grad():
        plain = net.eval()(louder.x_test)
    assert (plain[:, 0] - plain[:, 1]).abs().max() > 0.1
    assert all(torch.equal(before[name], held) for name, held in net.state_dict().items())


def test_numbers_of_an_arm_do_not_depend_on_the_others():
    data = load_pair(PAIR)
    together = measure_together(trials(*EXPERIMENT.arms), data)

    for arm, found in zip(EXPERIMENT.arms, together, strict=True):
        assert measure_together(trials(arm), data) == [found]
    shared, recalibrated = together[1], together[3]
    assert shared["train_mode"] == recalibrated["train_mode"]
    assert shared["curve"] != recalibrated["curve"]
    assert recalibrated["curve"][-1] == recalibrated["accuracy"]


def rows(shared, merged=(0.80, 0.81, 0.82), other=(0.80, 0.81, 0.82)):
    """Accuracies by seed, the same in both modes."""
    by_arm = {"merged": merged, "shared": shared, "separate": other, "recalibrated": other}
    return [
        {"arm": arm, "seed": seed, "lr": 0.2, "loss": 1.0, "accuracy": x, "train_mode": x}
        for arm, found in by_arm.items()
        for seed, x in enumerate(found)
    ]


LOWER, SAME, HIGHER, MIXED = (
    (0.70, 0.71, 0.72), (0.80, 0.81, 0.82), (0.90, 0.91, 0.92), (0.70, 0.91, 0.80),
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "planted", "expected"),
    [
        ("loses accuracy", rows(LOWER), "holds"),
        ("loses accuracy", rows(HIGHER), "fails"),
        ("loses accuracy", rows(MIXED), "undecided"),
        ("In training mode", rows(SAME), "holds"),
        ("In training mode", rows(LOWER), "fails"),
        ("In training mode", rows(MIXED), "undecided"),
        ("for each domain nothing is lost", rows(SAME), "holds"),
        ("for each domain nothing is lost", rows(SAME, other=LOWER), "fails"),
        ("for each domain nothing is lost", rows(SAME, other=MIXED), "undecided"),
        ("Measuring", rows(SAME), "holds"),
    ],
)
def test_planted_accuracies_give_the_verdict(words, planted, expected):
    assert verdict(EXPERIMENT, words, planted) == expected


def test_what_is_recalibrated_is_held_against_a_norm_for_each():
    planted = [
        row | {"accuracy": row["accuracy"] - 0.1 * (row["arm"] == "recalibrated")}
        for row in rows(SAME)
    ]

    assert verdict(EXPERIMENT, "Measuring", planted) == "fails"


@pytest.mark.parametrize(
    ("near", "far", "expected"), [(0.001, 0.1, "holds"), (0.1, 0.001, "fails"), (0, 0, "undecided")]
)
def test_restless_runs_lie_far_from_their_median(near, far, expected):
    def spread(by):
        return [0.8 + by * sign for sign in (1, -1, 1.1, -1.1, 1.2, -1.2)]

    # No difference at all leaves an interval of no width, on the bound.
    assert verdict(EXPERIMENT, "differ more", rows(spread(far), merged=spread(near))) == expected
