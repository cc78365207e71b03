"""Images that a convolutional network learns in seconds."""

from pathlib import Path

from .data import Dataset, load

__all__ = ["load_small"]

SIZES = {"mnist": 14, "fashion_mnist": 14, "cifar10": 16}
"""Width and height; others keep theirs."""


def load_small(name: str, folder: Path | None = None) -> Dataset:
    """At most 5,000 images to train and 1,000 to test, the large ones made smaller.

    Args:
        name: of images, as :func:`batchnorm.lab.data.load` knows it.
        folder: where the files lie.

    Raises:
        ValueError: what :func:`batchnorm.lab.data.load` raises.
    """
    return load(name, folder, train=5000, test=1000, size=SIZES.get(name))
