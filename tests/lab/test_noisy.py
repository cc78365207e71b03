"""The noise after batch norm: its moments, and when it changes."""

import math

import pytest
import torch

import batchnorm
from batchnorm.lab._noisy import NoisyBatchNorm1d

UNITS, EXAMPLES = 400, 500


@pytest.fixture
def x():
    return torch.randn(EXAMPLES, UNITS, generator=torch.Generator().manual_seed(1))


def test_noise_has_the_moments_it_should(x):
    noisy = NoisyBatchNorm1d(UNITS, seed=0)

    y = noisy(x).detach().double()

    shift, scale = y.mean(0), y.std(0)
    # Shifts lie in ±0.5, with the standard deviation 1/√12; a mean over examples adds 1/√n.
    error = 4 / math.sqrt(UNITS)
    assert float(shift.mean()) == pytest.approx(0, abs=error / math.sqrt(12))
    assert float(shift.std()) == pytest.approx(1 / math.sqrt(12), rel=error)
    assert float(shift.abs().max()) < 0.5 + 5 * 1.3 / math.sqrt(EXAMPLES)
    # Factors lie between 1 and 1.25; what is added varies by 0.1 in each factor and shift.
    assert float(scale.mean()) == pytest.approx(1.13, rel=0.02)
    assert float(scale.min()) > 0.9
    assert float(scale.max()) < 1.45


def test_noise_stays_until_it_is_redrawn(x):
    noisy, same = NoisyBatchNorm1d(UNITS, seed=0), NoisyBatchNorm1d(UNITS, seed=0)
    first = noisy(x)

    assert torch.equal(noisy(x), first)
    assert torch.equal(same(x), first)
    noisy.redraw()
    assert not torch.equal(noisy(x), first)
    assert not torch.equal(NoisyBatchNorm1d(UNITS, seed=1)(x), first)


def test_eval_mode_has_the_mean_of_the_factors(x):
    noisy, plain = NoisyBatchNorm1d(UNITS, seed=0), batchnorm.BatchNorm1d(UNITS)

    assert torch.allclose(noisy.eval()(x), 1.125 * plain.eval()(x))


def test_no_global_generator_is_moved(x):
    before = torch.random.get_rng_state()

    NoisyBatchNorm1d(UNITS, seed=0)(x)

    assert torch.equal(torch.random.get_rng_state(), before)
