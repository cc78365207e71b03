"""scikit-learn's digits, as they are and blended into its photographs."""

import numpy as np

from ._raw import Array, Parts, Raw
from ._split import first

__all__ = ["LEVELS", "digits", "digits_m"]

LEVELS = 16  # of grey, above black
TRAIN = 1200
CELL = 4  # pixels of a photograph along one of a digit: at full size a patch is nearly flat


def digits() -> Parts:
    """8×8 images; the later ones, partly by other writers, test."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)

    return first(Raw(x.reshape(-1, 8, 8).astype(np.uint8), y), TRAIN)


def digits_m() -> Parts:
    """The difference between a random patch of a photograph and the digit, as MNIST-M has it."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    strokes = x.reshape(-1, 8, 8, 1) * (255 / LEVELS)
    blended = np.abs(_patches(len(x)) - strokes).round().astype(np.uint8)

    return first(Raw(blended, y), TRAIN)


def _patches(count: int) -> Array:
    """Levels ``(count, 8, 8, 3)``, from anywhere in the two photographs."""
    from sklearn.datasets import load_sample_images

    photographs = [_smaller(image) for image in load_sample_images().images]
    chance = np.random.RandomState(0)
    patches = []
    for _ in range(count):
        photograph = photographs[chance.randint(len(photographs))]
        top, left = (chance.randint(side - 7) for side in photograph.shape[:2])
        patches.append(photograph[top : top + 8, left : left + 8])

    return np.stack(patches)


def _smaller(image: Array) -> Array:
    """Means of square cells."""
    height, width = (side // CELL for side in image.shape[:2])
    cells = image[: height * CELL, : width * CELL].reshape(height, CELL, width, CELL, 3)
    small: Array = cells.mean((1, 3))

    return small
