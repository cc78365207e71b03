"""Regularisation: dropout's shift and small batches' noise in closed form, and the rules."""

import math

import polars as pl
import pytest
import torch
from torch import nn

import batchnorm
from batchnorm.lab._augment import shifted
from batchnorm.lab._dropout import batch_noise, dropped, variance_shift
from batchnorm.lab.experiments import regularisation
from batchnorm.lab.models import Mlp

EXPERIMENT = regularisation.EXPERIMENT
GRID = EXPERIMENT.budgets["default"]
MANY = 40_000


def planted(accuracy, **others):
    """Trials whose test accuracy is a function of arm and settings."""
    rows = []
    for trial in EXPERIMENT.trials(GRID, {"digits": "d"}):
        found = accuracy(trial) + 1e-4 * (trial.seed % 2)
        usual = {"accuracy": found, "held_out_error": 1 - found, "train_accuracy": 1.0}
        usual |= {"shift": 0.8, "recalibrated": found, "noise": trial["ghost"] ** -0.5}
        of_trial = {"arm": trial.arm, "seed": trial.seed, **trial.settings}
        rows.append(of_trial | usual | {name: fill(trial) for name, fill in others.items()})

    return pl.DataFrame(rows)


def verdicts(frame):
    return [question.judge(frame).verdict for question in EXPERIMENT.questions]


def gaussian(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_planted_results_are_found():
    def helps(trial):
        batch, dropout = trial.arm != "plain", trial["dropout"] > 0
        shifts = 0.1 * trial["shifts"] * (0.5 if batch else 1)
        gap = 0.02 * math.log2(trial["ghost"])
        return 0.5 + 0.1 * batch + shifts - gap + 0.05 * (trial.arm == "last") + 0.001 * dropout

    frame = planted(helps, recalibrated=lambda trial: helps(trial) + 0.02 + 1e-4 * trial.seed)

    assert verdicts(frame) == ["holds"] * 10


def test_the_opposite_is_found_too():
    def hurts(trial):
        batch = trial.arm != "plain"
        found = 0.5 - 0.1 * batch + 0.05 * trial["shifts"] * batch
        found += batch * (0.03 * (trial["dropout"] > 0) + 0.06 * (trial["l2"] > 0))
        return found - 0.05 * (trial.arm == "last") + 0.02 * math.log2(trial["ghost"])

    frame = planted(
        hurts,
        recalibrated=lambda trial: hurts(trial) - 0.02,
        shift=lambda trial: 1.2 + 0.01 * trial.seed,
        noise=lambda trial: 1 / trial["ghost"],
    )

    assert verdicts(frame) == ["fails"] * 10


def test_noise_over_seeds_decides_nothing():
    def noisy(trial):
        return 0.5 + 0.1 * (trial.arm == "batch") * (-1) ** trial.seed

    assert verdicts(planted(noisy))[0] == "undecided"


def test_strength_is_chosen_on_held_out_data_alone():
    def best_at_the_weakest(trial):
        return {0.0: 0.5, 1e-3: 0.9, 1e-2: 0.6}[trial["l2"]]

    def error(trial):
        return {0.0: 0.5, 1e-3: 0.4, 1e-2: 0.1}[trial["l2"]]

    frame = planted(best_at_the_weakest, held_out_error=error)
    rows = EXPERIMENT.charts[0].rows(frame).filter(regularisers="L2", part="test", seed=0)

    assert rows["share"].unique().to_list() == [0.6]


def test_dropout_shifts_variance_as_computed_by_hand():
    net = Mlp(4, 3, batchnorm.BatchNorm1d, seed=0, hidden=4, depth=2)
    with torch.no_grad():
        net.linears[0].weight.copy_(torch.eye(4))
    dropped(net, 0.5)
    second, first = 0.5, 1 / math.sqrt(2 * math.pi)  # moments of a rectified normal number
    expected = (second - first**2) / (second / 0.5 - first**2)

    torch.manual_seed(0)
    assert variance_shift(net, gaussian(MANY, 4)) == pytest.approx(expected, rel=0.03)
    assert net.norms[0].num_batches_tracked == 0
    assert all(module.training for module in net.modules())


def test_dropout_behind_the_last_norm_shifts_nothing():
    net = Mlp(4, 3, batchnorm.BatchNorm1d, seed=0, hidden=4, activation=nn.ReLU())

    assert variance_shift(dropped(net, 0.5, last=True), gaussian(100, 4)) == 1.0
    hidden = net.head[0](torch.ones(1000))
    assert set(hidden.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("size", [4, 8, 32])
def test_noise_of_a_batch_is_that_of_its_standard_deviation(size):
    # E[x̂ₘ x̂] is the mean of the sample's biased standard deviation, that of a chi distribution.
    spread = math.sqrt(2 / size) * math.exp(math.lgamma(size / 2) - math.lgamma((size - 1) / 2))

    found = batch_noise(gaussian(MANY, 2), size)

    assert found == pytest.approx(math.sqrt(2 * (1 - spread)), rel=0.02)


def test_whole_batch_adds_no_noise():
    assert batch_noise(gaussian(64, 3), 64) == pytest.approx(0.0, abs=1e-6)


def test_images_move_by_up_to_an_eighth():
    x = torch.zeros(400, 1, 16, 16)
    x[:, :, 8, 8] = 1.0

    moved = shifted(x, torch.Generator().manual_seed(0))

    assert moved.sum((1, 2, 3)).eq(1).all()
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(down, right) for down in range(6, 11) for right in range(6, 11)}


def test_what_moves_out_is_lost_and_zeros_come_in():
    moved = shifted(torch.ones(50, 2, 8, 8), torch.Generator().manual_seed(0))

    assert set(moved.sum((2, 3)).unique().tolist()) == {49.0, 56.0, 64.0}


def test_held_out_half_is_not_learned():
    trial = EXPERIMENT.trials(GRID, {"digits": "d"})[0]
    data = EXPERIMENT.load("digits", None)

    learned, held_out = regularisation._halves(data)

    assert trial.arm == "plain"
    assert len(learned.x_train) == len(held_out.x_test) == 500
    assert torch.equal(torch.cat([learned.x_train, held_out.x_test]), data.x_train)
    assert torch.equal(learned.x_test, data.x_test)


def test_only_bare_batch_norm_has_small_ghost_batches():
    small = [t for t in EXPERIMENT.trials(GRID, {"digits": "d"}) if t["ghost"] < 64]

    assert {(t.arm, t["dropout"], t["l2"], t["shifts"]) for t in small} == {
        ("batch", 0.0, 0.0, False)
    }
