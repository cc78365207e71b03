"""Tiny experiments: small enough for a test, large enough to go through every path."""

from pathlib import Path

import numpy as np
import torch

from batchnorm.lab.data import Dataset
from batchnorm.lab.demo import Config, Result, run
from batchnorm.lab.training import TrialConfig

CLASSES = 10
SMALL = Config(
    seeds=2, steps=12, learning_rates=(0.5, 64.0), evaluations=3, early_losses=4, hidden=8
)


def result(folder: Path, config: Config = SMALL) -> Result:
    return run(config, folder, jobs=1)


def trial(**changes: object) -> TrialConfig:
    base = {
        "arm": "batchnorm",
        "seed": 0,
        "lr": 0.1,
        "steps": 20,
        "hidden": 8,
        "evaluations": 2,
        "early_losses": 20,
    }
    return TrialConfig(**(base | changes))  # type: ignore[arg-type]


def random_data(train: int = 130, test: int = 40, features: int = 5) -> Dataset:
    generator = torch.Generator().manual_seed(3)

    def part(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(n, features, generator=generator)
        return x, torch.randint(CLASSES, (n,), generator=generator)

    return Dataset("digits", "random", "none", *part(train), *part(test), "d")


def mnist_arrays(train: int = 130, test: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "y_train": rng.integers(0, CLASSES, train, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "y_test": rng.integers(0, CLASSES, test, dtype=np.uint8),
    }


def write_mnist(folder: Path, **changes: np.ndarray | None) -> Path:
    """Write ``mnist.npz``; None leaves a key out."""
    arrays = mnist_arrays() | changes
    path = folder / "mnist.npz"
    np.savez_compressed(path, **{key: a for key, a in arrays.items() if a is not None})
    return path
