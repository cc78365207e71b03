"""Recurrent networks: sequences are read to their ends and no further; the rules."""

import math
from dataclasses import replace

import polars as pl
import pytest
import torch

from batchnorm.lab._sequences import Reader, load_sequences, slower
from batchnorm.lab.data import Dataset
from batchnorm.lab.experiments import speech
from tests.tolerance import ulp

EXPERIMENT = speech.EXPERIMENT
MODES = (None, "sequence", "recurrent")


def recordings(n=12, steps=9, features=3):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, steps + 1, (n,), generator=generator)
    x = torch.randn(n, steps, features, generator=generator)
    x *= (torch.arange(steps) < lengths[:, None])[..., None]
    y = torch.arange(n) % 2
    return Dataset("d", "D", "raw", x, y, x, y, "d", 2, lengths, lengths)


def reader(mode, seed=0):
    return Reader(3, 2, mode, seed=seed, hidden=5, longest=9)


def planted(equal=0.0, **numbers):
    """Trials whose numbers are functions of arm, rate and seed.

    Where sequences are equally long recurrent batch norm is better by about `equal`.
    """
    grid = EXPERIMENT.budgets["default"]
    grid = replace(grid, by_dataset={}, settings={**grid.settings, "lengths": ("own", "equal")})
    usual = {
        "loss": lambda arm, lr, seed: 1.0,
        "mean_loss": lambda arm, lr, seed: 1.0 + 0.001 * seed,
        "accuracy": lambda arm, lr, seed: 0.5 + 0.001 * seed,
        "by_batch": lambda arm, lr, seed: 0.5,
    }
    frame = pl.DataFrame(
        [
            {"arm": t.arm, "lr": t["lr"], "seed": t.seed, "lengths": t["lengths"]}
            | {name: fill(t.arm, t["lr"], t.seed) for name, fill in (usual | numbers).items()}
            for t in EXPERIMENT.trials(grid, {"digits": "d"})
        ]
    )
    better = pl.col("lengths").eq("equal") & pl.col("arm").eq("recurrent")
    more = pl.when(better).then(equal * (1 + 0.01 * pl.col("seed"))).otherwise(0.0)

    return frame.with_columns(pl.col("accuracy") + more)


def verdicts(frame):
    return [question.judge(frame).verdict for question in EXPERIMENT.questions]


def test_planted_results_are_found():
    gain = {"none": 0.0, "recurrent": 0.1, "sequence": 0.2}
    frame = planted(
        equal=0.05,
        mean_loss=lambda arm, lr, seed: 2 - gain[arm] + 0.001 * seed,
        accuracy=lambda arm, lr, seed: 0.5 + (1 + 0.01 * seed) * gain[arm],
        by_batch=lambda arm, lr, seed: 0.501 + (1 + 0.01 * seed) * gain[arm],
    )

    assert verdicts(frame) == ["holds"] * 7


def test_the_opposite_is_found_too():
    loss = {"none": 0.0, "recurrent": 0.1, "sequence": 0.2}
    frame = planted(
        equal=-0.05,
        mean_loss=lambda arm, lr, seed: (1 + loss[arm]) * (1 + 0.001 * seed * loss[arm]),
        accuracy=lambda arm, lr, seed: 0.5 - (1 + 0.01 * seed) * loss[arm],
        by_batch=lambda arm, lr, seed: 0.6,
    )

    assert verdicts(frame) == ["fails"] * 7


def test_noise_and_diverged_runs_decide_nothing():
    frame = planted(
        mean_loss=lambda arm, lr, seed: math.inf if seed == 2 and arm != "none" else 1.0,
        accuracy=lambda arm, lr, seed: 0.5 + 0.1 * (-1) ** seed * len(arm),
    )

    assert verdicts(frame) == ["undecided"] * 7


def test_rate_is_chosen_by_training_loss():
    frame = planted(
        loss=lambda arm, lr, seed: lr,
        accuracy=lambda arm, lr, seed: 0.9 if lr == 0.4 and arm == "sequence" else 0.5,
    )

    assert verdicts(frame)[1] != "holds"


def test_equally_long_sequences_are_the_nearest_steps_of_their_own():
    data = recordings(n=4, steps=9)
    lengths = torch.tensor([1, 5, 9, 3])
    data = replace(data, lengths_train=lengths, lengths_test=lengths)

    found = speech._equally_long(data)

    steps = speech.EQUAL
    assert found.lengths_train.tolist() == [steps] * 4
    assert torch.equal(found.x_train[0], data.x_train[0, :1].expand(steps, -1))
    assert torch.equal(found.x_train[1], data.x_train[1, :5].repeat_interleave(steps // 5, 0))
    assert torch.equal(found.x_test[2, [0, -1]], data.x_test[2, [0, 8]])


def test_without_such_trials_nothing_is_decided_about_them():
    frame = planted().filter(lengths="own")

    assert verdicts(frame)[5] == "undecided"


def test_frames_are_averaged_and_remains_dropped():
    data = recordings(n=3, steps=7)
    data = replace(data, lengths_train=torch.tensor([7, 5, 1]))

    found = slower(data, 2)

    assert found.lengths_train.tolist() == [3, 2, 1]
    assert found.x_train.shape == (3, 3, 3)
    assert torch.equal(found.x_train[0, 1], data.x_train[0, 2:4].mean(0))
    assert torch.equal(found.x_train[2, 0], data.x_train[2, :2].mean(0))
    assert found.x_train[1, 2:].abs().sum() + found.x_train[2, 1:].abs().sum() == 0
    assert found.preparation == "raw; means of 2 frames"


def test_images_are_read_row_by_row():
    data = load_sequences("digits")

    assert data.shape == (8, 8)
    assert data.lengths_train is None


@pytest.mark.parametrize("mode", MODES)
def test_nothing_behind_the_end_is_read(mode):
    data = recordings()
    noisy = data.x_train + (data.x_train == 0) * 100.0

    for training in (True, False):
        one, other = (reader(mode).train(training) for _ in range(2))
        clean = one(data.x_train, data.lengths_train)
        assert torch.equal(clean, other(noisy, data.lengths_train))
        for mine, theirs in zip(one.buffers(), other.buffers(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("mode", MODES)
def test_a_sequence_alone_gives_what_it_gives_in_a_batch(mode):
    data = recordings()
    net = reader(mode)
    net(data.x_train, data.lengths_train)  # something to remember
    net.eval()

    together = net(data.x_train, data.lengths_train)

    for i, length in enumerate(data.lengths_train.tolist()):
        alone = net(data.x_train[i : i + 1, :length])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=64 * ulp(torch.float32))


def test_arms_begin_with_the_same_weights():
    plain, *normed = (reader(mode).state_dict() for mode in MODES)

    for state in normed:
        assert all(torch.equal(state[name], held) for name, held in plain.items())
    assert not torch.equal(plain["head.weight"], reader(None, seed=1).state_dict()["head.weight"])


@pytest.mark.parametrize("mode", ["sequence", "recurrent"])
def test_test_batch_is_normalised_by_itself_and_not_remembered(mode):
    data = recordings()
    net = reader(mode)
    before = {name: held.clone() for name, held in net.state_dict().items()}

    found = speech._by_batch(net, data)

    right = net(data.x_test, data.lengths_test).argmax(1) == data.y_test
    assert found == right.double().mean().item()
    net = reader(mode)
    speech._by_batch(net, data)
    assert all(torch.equal(held, before[name]) for name, held in net.state_dict().items())
