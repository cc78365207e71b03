"""Sequences for recurrent networks, and a network that reads them."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import batchnorm

from .data import Dataset, load
from .models._parts import building, start

__all__ = ["Mode", "Reader", "load_sequences", "slower"]

FRAMES = 4
Mode = Literal["sequence", "recurrent"]


@lru_cache(maxsize=2)
def load_sequences(name: str, folder: Path | None = None) -> Dataset:
    """Standardised sequences: images by rows; recordings at a quarter of their frames."""
    data = load(name, folder, rows=True, standard=True)

    return data if data.lengths_train is None else slower(data, FRAMES)


def slower(data: Dataset, frames: int) -> Dataset:
    """Means of `frames` frames each; what is left at a sequence's end is dropped."""
    assert data.lengths_train is not None
    assert data.lengths_test is not None
    x_train, lengths_train = _means(data.x_train, data.lengths_train, frames)
    x_test, lengths_test = _means(data.x_test, data.lengths_test, frames)

    return replace(
        data,
        preparation=f"{data.preparation}; means of {frames} frames",
        x_train=x_train,
        lengths_train=lengths_train,
        x_test=x_test,
        lengths_test=lengths_test,
    )


def _means(x: Tensor, lengths: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """``(n, L // frames, features)``, zeros after each end; shorter sequences have one frame."""
    steps = x.shape[1] // frames
    kept = (lengths // frames).clamp(min=1)
    means = x[:, : steps * frames].unflatten(1, (steps, frames)).mean(2)

    return means * (torch.arange(steps) < kept[:, None])[..., None], kept


class Reader(nn.Module):
    """Two LSTM layers, and a classifier of where the second one ends.

    Args:
        features: numbers per step.
        classes: outputs.
        mode: of :class:`batchnorm.BatchNormLSTM`; None for ``nn.LSTM``.
        seed: of the starting weights, which do not depend on `mode`.
        hidden: width of each layer.
        longest: steps of the longest sequence.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        mode: Mode | None,
        *,
        seed: int,
        hidden: int,
        longest: int,
    ) -> None:
        super().__init__()
        with building():
            self.layers: nn.Module = nn.LSTM(features, hidden, 2, batch_first=True)
            self.head = nn.Linear(hidden, classes)
        start(self, seed)
        if mode is not None:
            weights = self.layers.state_dict()
            self.layers = batchnorm.BatchNormLSTM(
                features, hidden, 2, batch_first=True, mode=mode, max_length=longest
            )
            self.layers.load_state_dict(weights, strict=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits ``(N, classes)`` of sequences ``(N, L, features)``."""
        packed = None
        if lengths is not None:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.layers(x if packed is None else packed)
        logits: Tensor = self.head(h[-1])

        return logits
