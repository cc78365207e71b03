"""The arms differ where they should; what an output without weight and bias can reach."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import batchnorm
from batchnorm.lab import Trial, predictions
from batchnorm.lab.experiments.output_layer import EXPERIMENT, _alone, _ends, _net
from tests.lab.experiments.planted import verdict
from tests.lab.small import random_data

SEEDS = (0, 1, 2)
DATA = random_data(train=400, test=300)


def net(arm):
    return _net(Trial("output-layer", arm, "random", "", 0, {"lr": 0.1, "steps": 1}), DATA)


def test_arms_differ_at_the_end_only():
    kinds = {
        arm: [type(layer) for layer in (*net(arm).norms, net(arm).last)] for arm in EXPERIMENT.arms
    }
    norm, none = batchnorm.BatchNorm1d, nn.Identity

    assert kinds == {
        "hidden": [norm, norm, norm, none],
        "earlier": [norm, norm, none, none],
        "output": [norm] * 4,
        "fixed": [norm] * 4,
    }
    assert net("output").last.affine
    assert not net("fixed").last.affine
    weights = [net(arm).head.weight for arm in EXPERIMENT.arms]
    assert all(torch.equal(weights[0], weight) for weight in weights)


def test_ten_classes_told_apart_by_standardised_outputs_are_known_to_76_percent():
    labels = torch.arange(500) % 10
    outputs = batchnorm.BatchNorm1d(10, affine=False, eps=1e-12)(
        functional.one_hot(labels, 10).double()
    )
    right = outputs.softmax(1)[torch.arange(500), labels]

    assert outputs.amax(1).mean() == pytest.approx(3)
    assert outputs.amin(1).mean() == pytest.approx(-1 / 3)
    expected = math.exp(3) / (math.exp(3) + 9 * math.exp(-1 / 3))
    assert right.mean() == pytest.approx(expected)
    assert expected == pytest.approx(0.757, abs=5e-4)


def test_ends_are_those_of_eval_mode():
    trained = net("output")
    found = _ends(trained, DATA)
    logits = predictions(trained, DATA)

    assert found["confidence"] == pytest.approx(float(logits.softmax(1).max(1).values.mean()))
    picked = logits.log_softmax(1)[torch.arange(len(logits)), DATA.y_test]
    assert found["test_loss"] == pytest.approx(-float(picked.mean()))


class ByCompany(nn.Module):
    """Names each example as the mean of its batch says."""

    def __init__(self):
        super().__init__()
        self.norm = batchnorm.BatchNorm1d(1)  # without any there are no updates to skip

    def forward(self, x):
        return functional.one_hot(x.mean(0).argmax().expand(len(x)), DATA.classes).float()


def test_alone_is_the_mean_over_batches_of_one_class():
    batches = [DATA.x_test[DATA.y_test == label][:50] for label in range(DATA.classes)]
    expected = [int(batch.mean(0).argmax()) == label for label, batch in enumerate(batches)]

    assert _alone(ByCompany(), DATA) == pytest.approx(sum(expected) / len(expected))


def test_looking_leaves_the_running_statistics_alone():
    looked = net("output")
    before = {name: held.clone() for name, held in looked.state_dict().items()}

    _ends(looked, DATA)

    assert all(torch.equal(held, before[name]) for name, held in looked.state_dict().items())
    assert looked.training


def rows(measured, **by_arm):
    """The better of two rates by training loss has the number, the other one nothing like it."""
    for arm, value in by_arm.items():
        for seed in SEEDS:
            for lr, loss, found in ((0.1, 0.1, value + 0.001 * seed), (1.0, 0.2, -9.0)):
                # The pairs of one seed must not be alike, or there is no spread.
                shift = 0.0005 * seed if arm == "hidden" else 0.0
                yield {"arm": arm, "seed": seed, "lr": lr, "loss": loss, measured: found + shift}


@pytest.mark.parametrize(
    ("words", "measured", "by_arm", "expected"),
    [
        ("on the output costs", "accuracy", {"hidden": 0.9, "output": 0.8}, "holds"),
        ("on the output costs", "accuracy", {"hidden": 0.8, "output": 0.9}, "fails"),
        ("on the output costs", "accuracy", {"hidden": 0.9, "output": 0.9005}, "undecided"),
        ("before the last layer", "accuracy", {"hidden": 0.8, "earlier": 0.9}, "holds"),
        ("before the last layer", "accuracy", {"hidden": 0.9, "earlier": 0.8}, "fails"),
        ("cannot be sure", "confidence", {"fixed": 0.7}, "holds"),
        ("cannot be sure", "confidence", {"fixed": 0.9}, "fails"),
        ("depends on the examples", "alone", {"hidden": 0.1}, "holds"),
        ("depends on the examples", "alone", {"hidden": 0.9}, "fails"),
    ],
)
def test_verdicts(words, measured, by_arm, expected):
    assert verdict(EXPERIMENT, words, rows(measured, **by_arm)) == expected
