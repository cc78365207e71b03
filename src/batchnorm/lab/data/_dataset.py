"""What an experiment gets: tensors, ready to train on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A problem to learn, its examples in two parts.

    Args:
        name: key of :func:`batchnorm.lab.data.load`.
        title: the name as people know it.
        preparation: what was done to the raw values, in words.
        x_train: ``(n, *shape)`` float32.
        y_train: ``(n,)`` int64 classes, or float32 numbers to predict.
        x_test: ``(m, *shape)`` float32.
        y_test: ``(m,)``.
        digest: SHA-256 that differs when any of the arrays does.
        classes: how many; 0 where numbers are predicted.
        lengths_train: ``(n,)`` int64, frames of each sequence; None where all fill their tensor.
        lengths_test: ``(m,)`` int64.
    """

    name: str
    title: str
    preparation: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    digest: str
    classes: int = 10
    lengths_train: Tensor | None = None
    lengths_test: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(self.x_train.shape[1:])

    @property
    def features(self) -> int:
        """Numbers per example."""
        return math.prod(self.shape)

    @property
    def constant_loss(self) -> float:
        """Loss of the best constant prediction on the training part.

        Cross entropy (nats): the labels' entropy; for numbers the mean squared error: their
        variance.
        """
        if not self.classes:
            return float(self.y_train.double().var(correction=0))
        share = self._counts().double() / len(self.y_train)
        return float(-torch.special.xlogy(share, share).sum())

    @property
    def constant_accuracy(self) -> float:
        """Test accuracy of always naming the commonest training class; NaN for numbers."""
        if not self.classes:
            return math.nan
        return float((self.y_test == self._counts().argmax()).double().mean())

    def _counts(self) -> Tensor:
        return torch.bincount(self.y_train, minlength=self.classes)
