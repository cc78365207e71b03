"""scikit-learn's digits, as they are and blended into its photographs."""

import numpy as np
from sklearn import datasets

from ._raw import Parts, Raw
from ._split import first

__all__ = ["LEVELS", "digits", "digits_m"]

LEVELS = 16  # of grey, above black
TRAIN = 1200
CELL = 4  # pixels of a photograph along one of a digit: at full size a patch is nearly flat


def digits() -> Parts:
    """8×8 images; the later ones, partly by other writers, test."""
    x, y = datasets.load_digits(return_X_y=True)

    return first(Raw(x.reshape(-1, 8, 8).astype(np.uint8), y), TRAIN)


def digits_m() -> Parts:
    """The difference between a random patch of a photograph and the digit, as MNIST-M has it."""
    x, y = datasets.load_digits(return_X_y=True)
    photographs = [_smaller(image) for image in datasets.load_sample_images().images]
    chance = np.random.RandomState(0)
    patches = []
    for _ in range(len(x)):
        photograph = photographs[chance.randint(len(photographs))]
        top, left = (chance.randint(side - 7) for side in photograph.shape[:2])
        patches.append(photograph[top : top + 8, left : left + 8])
    strokes = x.reshape(-1, 8, 8, 1) * (255 / LEVELS)

    return first(Raw(np.abs(np.stack(patches) - strokes).round().astype(np.uint8), y), TRAIN)


def _smaller(image: np.ndarray) -> np.ndarray:
    """Means of square cells."""
    height, width = (side // CELL for side in image.shape[:2])
    cells = image[: height * CELL, : width * CELL].reshape(height, CELL, width, CELL, 3)
    small: np.ndarray = cells.mean((1, 3))

    return small
