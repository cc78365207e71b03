"""Running a model to look at it leaves no trace, whatever the model does and however it ends."""

import random

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import batchnorm as bn
from batchnorm.doctor._untouched import untouched
from tests.doctor.pictures import assert_same, picture


class Restless(nn.Module):
    """Changes everything of itself that a forward can change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.steps = 0
        self.register_buffer("memory", torch.zeros(3))

    def forward(self, x):
        self.steps += 1
        self.memory = x.mean(0)
        self.register_buffer("seen", x)
        self.added = nn.Linear(3, 3)
        random.random()
        return nn.functional.dropout(self.norm(x), 0.5)


@pytest.mark.parametrize("raises", [False, True])
def test_everything_returns_also_when_the_body_raises(raises) -> None:
    model = Restless()
    model(torch.randn(4, 3)).sum().backward()
    before = picture(model)

    try:
        with untouched(model):
            model(torch.randn(4, 3))
            model.eval()
            if raises:
                raise KeyError
    except KeyError:
        pass

    assert_same(picture(model), before)


def test_a_backward_that_waits_is_not_disturbed() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    loss = (model(torch.randn(4, 3)) * torch.randn(4, 2)).sum()

    with untouched(model):
        model.train()
        model(torch.randn(4, 3))

    loss.backward()  # would raise if a running statistic had been written to


def test_a_shared_buffer_is_one_buffer_inside_too() -> None:
    left, right = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    right.running_mean = left.running_mean

    with untouched(nn.Sequential(left, right)):
        left(torch.randn(4, 3) + 5)
        assert right.running_mean.min() > 0


@pytest.mark.parametrize(
    "layer", [bn.BatchNorm1d(3), bn.BatchRenorm1d(3), bn.GhostBatchNorm1d(3, ghost_batch_size=2)]
)
def test_our_layers_keep_all_their_state(layer) -> None:
    before = picture(layer)

    with untouched(layer):
        layer(torch.randn(4, 3))

    assert_same(picture(layer), before)


def test_a_loaders_own_generator_returns() -> None:
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(8, 3))
    loader = DataLoader(data, batch_size=4, shuffle=True, generator=generator)
    before = generator.get_state()

    with untouched(nn.Identity(), loader):
        list(loader)

    assert generator.get_state().equal(before)
    assert len(list(loader)) == 2


def test_numpys_generator_returns() -> None:
    numpy = pytest.importorskip("numpy")
    before = numpy.random.get_state()[1].tolist()

    with untouched(nn.Identity()):
        numpy.random.rand()

    assert numpy.random.get_state()[1].tolist() == before
