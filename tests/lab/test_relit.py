"""Brightness and contrast by chance: bounds, means, and the same from the same seed."""

import pytest
import torch

from batchnorm.lab._augment import relit

X = 0.4 + 0.2 * torch.rand(500, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def changed(strength: float) -> torch.Tensor:
    return relit(X, torch.Generator().manual_seed(1), strength=strength)


def test_no_strength_changes_nothing():
    torch.testing.assert_close(changed(0.0), X)


def test_brightness_and_contrast_are_of_each_image_and_bounded():
    mean, before = changed(0.3).mean((1, 2, 3)), X.mean((1, 2, 3))
    spread = changed(0.3).flatten(1).std(1) / X.flatten(1).std(1)

    assert (mean - before).abs().max() <= 0.3 + 1e-6
    assert (spread - 1).abs().max() <= 0.3 + 1e-5
    # Uniform chances: the standard error of 500 means is 0.3 / √(3 · 500).
    assert float((mean - before).mean()) == pytest.approx(0, abs=5 * 0.3 / 1500**0.5)
    assert float((mean - before).std()) == pytest.approx(0.3 / 3**0.5, rel=0.2)
    assert torch.corrcoef(torch.stack([mean - before, spread]))[0, 1].abs() < 0.2


def test_levels_stay_levels():
    found = changed(0.9)

    assert found.min() == 0
    assert found.max() == 1


def test_chance_is_the_generators():
    assert torch.equal(changed(0.2), changed(0.2))
