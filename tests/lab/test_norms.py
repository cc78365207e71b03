"""The norms of the experiments normalise over what their names say."""

import pytest
import torch

from batchnorm.lab._norms import NORMS, ghost
from batchnorm.lab.models import ConvNet

X = 3 + 2 * torch.randn(8, 16, 5, 5, generator=torch.Generator().manual_seed(0))
OVER = {
    "batch": lambda x: x.transpose(0, 1).flatten(1),
    "layer": lambda x: x.flatten(1),
    "instance": lambda x: x.flatten(0, 1).flatten(1),
    "group": lambda x: x.view(64, -1),
    "renorm": lambda x: x.transpose(0, 1).flatten(1),
    "ghost": lambda x: x.view(2, 4, 16, -1).transpose(1, 2).flatten(0, 1).flatten(1),
}


@pytest.mark.parametrize("name", OVER)
def test_every_set_that_is_normalised_together_has_mean_0_and_variance_1(name):
    make = ghost(4) if name == "ghost" else NORMS[name]
    layer = make(16)
    if name == "renorm":  # without bounds that bite, it follows the running statistics
        layer.running_mean.copy_(X.mean((0, 2, 3)))
        layer.running_var.copy_(X.var((0, 2, 3), correction=0))

    sets = OVER[name](layer(X))

    torch.testing.assert_close(sets.mean(1), torch.zeros(len(sets)), atol=1e-5, rtol=0)
    torch.testing.assert_close(sets.var(1, correction=0), torch.ones(len(sets)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_serves_a_network(name):
    net = ConvNet(NORMS[name], seed=0, channels=3, classes=4, widths=(8, 12))

    assert net(torch.randn(5, 3, 8, 8)).shape == (5, 4)
