"""The norm stands where the arm says; planted accuracies give the planted verdicts."""

import itertools

import pytest
import torch

from batchnorm.lab import Trial
from batchnorm.lab.experiments.placement import ACTIVATIONS, EXPERIMENT, LABELS, NETS, _net, images
from tests.lab.experiments.planted import finding, verdict

SEEDS = (0, 1, 2)


def built(kind, activation, arm):
    """The network as it starts, and its last layer."""
    settings = {"net": kind, "activation": activation, "lr": 0.5, "steps": 1}
    net = _net(Trial("placement", arm, "digits", "", 0, settings), images("digits", None))

    return net, net.head if kind == "conv" else net[1].head


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("arm", EXPERIMENT.arms)
def test_what_the_last_layer_reads_is_normalised_after_the_activation_only(kind, activation, arm):
    net, head = built(kind, activation, arm)
    seen = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))

    net(images("digits", None).x_train[:200])

    means = seen[0].mean(0).abs()
    assert means.max() < 1e-5 if arm == "after" else means.max() > 0.02


@pytest.mark.parametrize("kind", NETS)
def test_both_places_start_from_the_same_weights(kind):
    weights = [
        [parameter for parameter in built(kind, "relu", arm)[0].parameters() if parameter.ndim > 1]
        for arm in EXPERIMENT.arms
    ]

    assert len(weights[0]) == 4
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_images_are_standardised():
    data = images("digits", None)

    assert data.shape == (1, 8, 8)
    assert float(data.x_train.mean()) == pytest.approx(0, abs=1e-5)
    assert float(data.x_train.std()) == pytest.approx(1, rel=1e-3)


def rows(gains, spread=0.001):
    """At the better of two rates by training loss, `before` is better by so much."""
    kinds = itertools.product(NETS, LABELS, SEEDS, EXPERIMENT.arms, (0.1, 0.5))
    for net, activation, seed, arm, lr in kinds:
        gain = gains.get((net, activation), 0.0) + spread * seed if arm == "before" else 0.0
        right = lr == 0.1
        yield {
            "arm": arm,
            "seed": seed,
            "net": net,
            "activation": activation,
            "lr": lr,
            "loss": 0.1 if right else 0.2,
            "accuracy": 0.9 + gain if right else 0.99,
        }


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.02, "holds"), (-0.02, "fails"), (-0.001, "undecided")]
)
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("convolutional network with ReLU", ("conv", "relu")),
        ("fully connected network with sigmoid", ("mlp", "sigmoid")),
    ],
)
def test_place_is_judged_net_by_net_at_the_best_rate(words, kind, gain, expected):
    found = finding(EXPERIMENT, words, rows({kind: gain}))

    assert found.verdict == expected
    assert found.effect.mean == pytest.approx(gain + 0.001)


@pytest.mark.parametrize(("gain", "expected"), [(0.001, "holds"), (0.04, "fails")])
def test_place_does_not_matter(gain, expected):
    planted = list(rows({(net, "relu"): gain for net in NETS}))

    assert verdict(EXPERIMENT, "With ReLU the place", planted) == expected
    assert verdict(EXPERIMENT, "With tanh the place", planted) == "holds"


def test_only_the_sigmoid_gets_the_highest_rate():
    trials = EXPERIMENT.trials(EXPERIMENT.grid("default"), {"digits": "d"})

    assert {t["activation"] for t in trials if t["lr"] == 8} == {"sigmoid"}
    assert {t["activation"] for t in trials if t["lr"] == 2} == set(ACTIVATIONS)
