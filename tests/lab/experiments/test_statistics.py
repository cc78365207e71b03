"""Statistics at test time: the averages are those of layers, and verdicts of planted accuracies."""

from functools import partial

import pytest
import torch

import batchnorm
from batchnorm.lab import Trial, fit
from batchnorm.lab._averages import Averages
from batchnorm.lab._small_images import load_small
from batchnorm.lab.experiments.statistics import EXPERIMENT, MOMENTA, SIZES, measure_together
from batchnorm.lab.models import ConvNet
from tests.lab.experiments.planted import verdict
from tests.tolerance import ulp

STEPS = 12


def trained(norm=batchnorm.BatchNorm2d, averages=None):
    net = ConvNet(norm, seed=0, channels=1, classes=10, widths=(4, 8))
    kept = Averages(net, averages) if averages else None
    after = kept.update if kept else lambda _: None
    fit(net, load_small("digits"), lr=0.1, steps=STEPS, seed=0, batch_size=16, after=after)

    return net, kept


@pytest.mark.parametrize("name", MOMENTA)
def test_averages_are_what_a_layer_with_that_momentum_keeps(name):
    usual, _ = trained(partial(batchnorm.BatchNorm2d, momentum=MOMENTA[name]))
    net, averages = trained(averages=MOMENTA)

    averages.use(name)

    for (key, mine), theirs in zip(
        net.state_dict().items(), usual.state_dict().values(), strict=True
    ):
        if "running" in key:
            assert torch.allclose(mine, theirs, rtol=STEPS * 10 * ulp(torch.float32)), key
        else:
            assert torch.equal(mine, theirs), key


def test_layers_forget_what_they_were_given():
    net, averages = trained(averages=MOMENTA)
    layer = averages.layers[0]
    averages.use("slowest")

    with torch.no_grad():
        net(load_small("digits").x_train[:16])

    entering = net.features[0](load_small("digits").x_train[:16])
    assert torch.allclose(layer.running_mean, entering.mean((0, 2, 3)), atol=1e-5)


def test_numbers_of_an_arm_do_not_depend_on_the_others():
    data = load_small("digits")
    settings = {"lr": 0.1, "rate": "falling", "steps": 4}
    trials = [Trial("statistics", arm, "digits", "d", 0, settings) for arm in EXPERIMENT.arms]

    together = measure_together(trials, data)

    for trial, found in zip(trials, together, strict=True):
        assert measure_together([trial], data) == [found]
        assert found["step"] == [1, 2, 4]
        assert found["test_batch"] == list(SIZES)
        flat = len(set(found["by_test_batch"])) == 1
        assert flat == (trial.arm != "batch")
        assert found["by_test_batch"][-1] == found["accuracy"] == found["curve"][-1]


def rows(**accuracy):
    """Accuracies by seed, in every look and at every size; by `small` in test batches of 4."""
    seeds = range(3)
    base = dict.fromkeys(EXPERIMENT.arms, (0.90, 0.901, 0.902))
    small = accuracy.pop("small", base["batch"])
    return [
        {
            "arm": arm,
            "seed": seed,
            "rate": rate,
            "accuracy": found[seed],
            "mean": found[seed],
            "test_batch": [4, 256],
            "by_test_batch": [(small if arm == "batch" else found)[seed], found[seed]],
        }
        for arm, found in (base | accuracy).items()
        for seed in seeds
        for rate in ("constant", "falling")
    ]


LOWER, MIXED, HIGHER = (0.5, 0.51, 0.52), (0.7, 0.9, 0.99), (0.98, 0.99, 0.991)


@pytest.mark.parametrize(
    ("words", "planted", "expected"),
    [
        ("can be followed", rows(), "holds"),
        ("can be followed", rows(usual=LOWER), "fails"),
        ("can be followed", rows(usual=MIXED), "undecided"),
        ("While the rate is high", rows(usual=LOWER), "holds"),
        ("While the rate is high", rows(usual=HIGHER), "fails"),
        ("While the rate is high", rows(usual=MIXED), "undecided"),
        ("has fallen to zero", rows(), "holds"),
        ("has fallen to zero", rows(usual=LOWER), "fails"),
        ("0.999", rows(slowest=LOWER), "holds"),
        ("0.999", rows(), "fails"),
        ("0.999", rows(slowest=MIXED), "undecided"),
        ("average of all batches", rows(cumulative=LOWER), "holds"),
        ("average of all batches", rows(cumulative=HIGHER), "fails"),
        ("Large test batches", rows(), "holds"),
        ("Large test batches", rows(batch=LOWER), "fails"),
        ("Large test batches", rows(batch=MIXED), "undecided"),
        ("Small test batches", rows(small=LOWER), "holds"),
        ("Small test batches", rows(), "fails"),
        ("Small test batches", rows(small=MIXED), "undecided"),
    ],
)
def test_planted_accuracies_give_the_verdict(words, planted, expected):
    assert verdict(EXPERIMENT, words, planted) == expected
