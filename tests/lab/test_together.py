"""Networks that train together end as they would in any other company, and alone to rounding."""

import math

import pytest
import torch
from torch import nn

import batchnorm
from batchnorm.lab._fit import accuracy, fit, minibatches
from batchnorm.lab._together import fit_together
from batchnorm.lab.models import Mlp
from tests.lab.small import random_data
from tests.tolerance import ulp

DATA = random_data()
STEPS = 12
NORMS = pytest.mark.parametrize(
    "norm", [None, batchnorm.BatchNorm1d, nn.BatchNorm1d], ids=["none", "ours", "torch"]
)


def net(seed: int, norm: object = None, **options: object) -> Mlp:
    return Mlp(DATA.features, DATA.classes, norm, seed=seed, **{"hidden": 12} | options)


def together(order, norm, rates=None, **options):
    """Losses and states by seed."""
    nets = [net(seed, norm, **options) for seed in order]
    lrs = rates or [0.1 * (seed + 1) for seed in order]
    losses = fit_together(nets, DATA, lrs=lrs, seeds=order, steps=STEPS, batch_size=20)

    return dict(zip(order, zip(losses, nets, strict=True), strict=True))


@NORMS
@pytest.mark.parametrize("activation", [torch.sigmoid, torch.tanh])
def test_company_changes_no_bit(norm, activation):
    alone = together([2], norm, activation=activation)
    crowds = [[2, 0], [1, 0, 2], [5, 2, 4, 3, 1, 0, 6]]

    for crowd in crowds:
        losses, trained = together(crowd, norm, activation=activation)[2]
        assert losses == alone[2][0]
        for name, held in alone[2][1].state_dict().items():
            assert torch.equal(trained.state_dict()[name], held), name


@NORMS
@pytest.mark.parametrize(
    "options", [{}, {"placement": "after"}, {"norm_output": True}, {"bias": True}]
)
def test_they_train_as_one_by_one(norm, options):
    crowd = together([0, 1, 2], norm, **options)

    for seed, (losses, trained) in crowd.items():
        single = net(seed, norm, **options)
        expected = fit(single, DATA, lr=0.1 * (seed + 1), steps=STEPS, seed=seed, batch_size=20)
        # Each step rounds a few sums anew, and training carries the rounding on.
        bound = 100 * STEPS * ulp(torch.float32)
        assert torch.allclose(torch.tensor(losses), torch.tensor(expected), rtol=bound, atol=bound)
        assert len(set(losses)) == STEPS
        for name, held in single.state_dict().items():
            found = trained.state_dict()[name]
            assert torch.allclose(found.double(), held.double(), rtol=bound, atol=bound), name


def test_one_that_diverges_leaves_the_others_alone():
    calm = together([0, 1], None, rates=[0.1, 0.1])[0]
    wild = together([0, 1], None, rates=[0.1, 1e38])

    assert wild[0][0] == calm[0]
    assert len(wild[1][0]) < STEPS
    assert not math.isfinite(wild[1][0][-1])
    assert all(map(math.isfinite, wild[1][0][:-1]))


def test_weights_are_there_when_they_are_asked_for():
    nets = [net(seed, batchnorm.BatchNorm1d) for seed in (0, 1)]
    seen = {}

    def look(step):
        seen[step] = (accuracy(nets[0], DATA), nets[0].head.weight.clone())

    options = {"lrs": [0.1, 0.1], "seeds": [0, 1], "batch_size": 20}
    fit_together(nets, DATA, steps=8, at={3, 8}, after=look, **options)
    short = [net(seed, batchnorm.BatchNorm1d) for seed in (0, 1)]
    fit_together(short, DATA, steps=3, **options)

    assert sorted(seen) == [3, 8]
    assert torch.equal(seen[3][1], short[0].head.weight)
    assert torch.equal(seen[8][1], nets[0].head.weight)
    assert int(nets[1].norms[0].num_batches_tracked) == 8


@pytest.mark.parametrize(
    "nets",
    [
        [net(0, lambda n: nn.LayerNorm(n)), net(1, lambda n: nn.LayerNorm(n))],
        [net(0), net(1, nn.BatchNorm1d)],
    ],
    ids=["layer norm", "mixed"],
)
def test_other_norms_are_refused(nets):
    with pytest.raises(
        ValueError, match=r"fit_together: all networks must have the same batch norm"
    ):
        fit_together(nets, DATA, lrs=[0.1, 0.1], seeds=[0, 1], steps=1)


@pytest.mark.parametrize(("hidden", "size"), [(13, 20), (12, 21)])
def test_sizes_whose_bits_depend_on_the_company_are_refused(hidden, size):
    with pytest.raises(ValueError, match=rf"Got hidden={hidden}, batch_size={size}"):
        fit_together([net(0, hidden=hidden)], DATA, lrs=[1], seeds=[0], steps=1, batch_size=size)


def test_minibatches_visit_every_example_once_an_epoch():
    batches = minibatches(10, 3, seed=0)

    first = torch.cat([next(batches) for _ in range(3)])
    second = torch.cat([next(batches) for _ in range(3)])

    assert len(first.unique()) == len(second.unique()) == 9
    assert not torch.equal(first, second)


@pytest.mark.parametrize("size", [0, 11])
def test_impossible_minibatch_is_refused(size):
    with pytest.raises(ValueError, match=rf"Got size={size}, examples=10"):
        next(minibatches(10, size, seed=0))
