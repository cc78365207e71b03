"""Corruptions by what they do to known images, and verdicts of planted accuracies."""

import pytest
import torch

import batchnorm
from batchnorm.lab import Trial, accuracy, fit
from batchnorm.lab._corruptions import CORRUPTIONS, SEVERITIES, corrupt
from batchnorm.lab._small_images import load_small
from batchnorm.lab.experiments.drift import (
    EXAMPLES,
    EXPERIMENT,
    _adapted,
    _halves,
    measure_together,
)
from batchnorm.lab.models import ConvNet
from tests.lab.experiments.planted import verdict
from tests.tolerance import ulp

IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
GREY = torch.full((6, 3, 12, 12), 0.5)
ROUNDING = 10 * ulp(torch.float32)


def trial(arm, corruption="contrast"):
    settings = {"lr": 0.1, "corruption": corruption, "steps": 5, "passes": 1}
    return Trial("drift", arm, "digits", "d", 0, settings)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_images_are_images_and_the_same_again(name):
    assert torch.equal(corrupt(IMAGES, name, 0, 0), IMAGES)
    moved = [float((corrupt(IMAGES, name, s, 0) - IMAGES).norm()) for s in SEVERITIES]
    assert moved == sorted(moved)
    found = corrupt(IMAGES, name, 3, 0)
    assert found.shape == IMAGES.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found, corrupt(IMAGES, name, 3, 0))


def test_noise_has_its_deviation():
    grey = torch.full((100, 1, 28, 28), 0.5)
    assert (corrupt(grey, "noise", 1, 0) - grey).std() == pytest.approx(0.15, rel=0.02)
    assert not torch.equal(corrupt(GREY, "noise", 1, 0), corrupt(GREY, "noise", 1, 1))


def test_blur_keeps_what_is_even_and_spreads_a_point():
    assert torch.allclose(corrupt(GREY, "blur", 3, 0), GREY, atol=ROUNDING)
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1
    spread = corrupt(point, "blur", 2, 0)[0, 0]
    assert spread.sum() == pytest.approx(1, abs=ROUNDING)
    assert spread[4, 5] / spread[4, 4] == pytest.approx(torch.e ** (-0.5 / 0.8**2), rel=1e-5)
    assert torch.allclose(spread, spread.T, atol=ROUNDING)


def test_contrast_is_about_the_image_s_own_mean():
    found = corrupt(IMAGES, "contrast", 2, 0)

    assert torch.allclose(found.mean((1, 2, 3)), IMAGES.mean((1, 2, 3)), atol=ROUNDING)
    assert torch.allclose(found.std((1, 2, 3)), 0.3 * IMAGES.std((1, 2, 3)), rtol=1e-5)


def test_brightness_is_added_up_to_white():
    assert torch.equal(corrupt(IMAGES, "brightness", 2, 0), (IMAGES + 0.4).clamp(max=1))


def test_a_square_is_hidden_at_another_place_in_every_image():
    found = corrupt(GREY, "occlusion", 3, 0)

    hidden = found == 0
    assert torch.equal(hidden.sum((2, 3)), torch.full((6, 3), 6 * 6))
    assert len({tuple(image[0].nonzero()[0].tolist()) for image in hidden}) > 1
    for image in hidden:
        assert image.any(2).sum() == 3 * 6  # six rows of each channel
        assert torch.equal(image[0], image[2])


@pytest.mark.parametrize(("name", "severity"), [("fog", 1), ("noise", 4)])
def test_what_is_unknown_is_refused(name, severity):
    with pytest.raises(ValueError, match=f"must be known. Got '{name}', {severity}"):
        corrupt(IMAGES, name, severity, 0)


def test_halves_hold_every_image_once():
    data = load_small("digits")

    seen, held = _halves(data, "noise", 0, 0)

    both = torch.cat([seen, held.x_test]).flatten(1)
    assert torch.equal(both.sort(0).values, data.x_test.flatten(1).sort(0).values)
    assert len(held.y_test) == len(held.x_test)
    assert len(seen) >= EXAMPLES[-1]


@pytest.mark.parametrize("arm", ["adabn", "mix", "tent"])
def test_adapting_is_undone(arm):
    net = ConvNet(batchnorm.BatchNorm2d, seed=0, channels=1, classes=10)
    before = {name: held.clone() for name, held in net.state_dict().items()}

    _adapted(trial(arm), net, load_small("digits"), 2, 64)

    assert all(torch.equal(before[name], held) for name, held in net.state_dict().items())
    assert net.training


def test_new_statistics_are_those_of_the_images_that_are_not_tested():
    data = load_small("digits")
    net = ConvNet(batchnorm.BatchNorm2d, seed=0, channels=1, classes=10)
    fit(net, data, lr=0.1, steps=30, seed=0)
    seen, held = _halves(data, "contrast", 3, 0)

    found = _adapted(trial("adabn"), net, data, 3, 64)

    assert found > _adapted(trial("source"), net, data, 3, 64)
    batchnorm.recalibrate(net, [seen[:64]])
    assert found == accuracy(net, held)


def test_numbers_of_a_trial_do_not_depend_on_the_others():
    data = load_small("digits")
    trials = [trial(arm, name) for arm in EXPERIMENT.arms for name in ("contrast", "occlusion")]

    together = measure_together(trials, data)

    for one, found in zip(trials, together, strict=True):
        assert measure_together([one], data) == [found]
        assert found["examples"] == list(EXAMPLES)
        assert len(found["by_examples"]) == len(EXAMPLES)
        assert found["by_examples"][-1] == found["by_severity"][2]


def rows(hidden=None, few=None, **accuracy):
    """Accuracies by seed, 20 points below those of clean images.

    New statistics have those of `hidden` under occlusion, and of `few` from 4 or 32 images.
    """
    base = {"source": SAME, "adabn": SAME, "mix": SAME, "tent": SAME} | accuracy
    return [
        {
            "arm": arm,
            "seed": seed,
            "corruption": corruption,
            "accuracy": (hidden or found)[seed] if arm == "adabn" and covered else found[seed],
            "clean": found[seed] + 0.2,
            "examples": [4, 32, 256],
            "by_examples": [(few or found)[seed] if arm == "adabn" else found[seed]] * 2
            + [found[seed]],
        }
        for arm, found in base.items()
        for corruption, covered in (("noise", False), ("occlusion", True))
        for seed in range(3)
    ]


LOWER, SAME, HIGHER, MIXED = (
    (0.5, 0.51, 0.52),
    (0.7, 0.71, 0.72),
    (0.9, 0.91, 0.92),
    (0.5, 0.91, 0.75),
)


@pytest.mark.parametrize(
    ("words", "planted", "expected"),
    [
        ("raise accuracy", rows(adabn=HIGHER), "holds"),
        ("raise accuracy", rows(adabn=LOWER), "fails"),
        ("raise accuracy", rows(adabn=MIXED), "undecided"),
        ("a handful", rows(mix=HIGHER), "holds"),
        ("a handful", rows(few=HIGHER), "fails"),
        ("a handful", rows(few=MIXED), "undecided"),
        ("few dozen", rows(), "holds"),
        ("few dozen", rows(few=LOWER), "fails"),
        ("few dozen", rows(few=MIXED), "undecided"),
        ("TENT", rows(tent=HIGHER), "holds"),
        ("TENT", rows(tent=LOWER), "fails"),
        ("TENT", rows(tent=MIXED), "undecided"),
        ("nothing has moved", rows(), "holds"),
        ("nothing has moved", rows(adabn=LOWER), "fails"),
        ("nothing has moved", rows(adabn=MIXED), "undecided"),
        ("hides a part", rows(adabn=HIGHER, hidden=SAME), "holds"),
        ("hides a part", rows(hidden=HIGHER), "fails"),
        ("hides a part", rows(adabn=MIXED, hidden=SAME), "undecided"),
        ("hides a part", [row | {"clean": 0.0} for row in rows(adabn=HIGHER)], "undecided"),
    ],
)
def test_planted_accuracies_give_the_verdict(words, planted, expected):
    assert verdict(EXPERIMENT, words, planted) == expected
