"""What users would have in a file of their own: models, samples, loaders."""

import time

import torch
from torch import nn

import batchnorm as bn

SHAPE = (6, 3, 8, 8)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )


def padded():
    """Its second batch norm folds forward only while it has no shift."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 4, 3, padding=1),
    )


def plain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), bn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


class Branching(nn.Module):
    """Folds otherwise with a sample than without: torch.fx cannot trace it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)) if float(x.mean()) < 1e9 else x


class Block(nn.Module):
    """Fusing writes its forward anew."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


class Stateful(nn.Sequential):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        pass


def stateful():
    return Stateful(*small())


def no_model():
    return 3


def broken():
    return {}["nothing"]


instance = small()


def sample():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


def loader():
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(SHAPE, generator=generator) * 3 + 1 for _ in range(4)]
    return [(image, torch.zeros(len(image), dtype=torch.long)) for image in images]


def once():
    return iter(loader())


def failing():
    yield from loader()
    raise OSError("the disk is gone")


def slow():
    print("begun", flush=True)
    for batch in loader() * 1000:
        time.sleep(0.05)
        yield batch


def loss(output, batch):
    return nn.functional.cross_entropy(output, batch[1])
