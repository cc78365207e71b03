"""Spoken digits: waves to frames of band energies."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ._npz import read_npz
from ._raw import Array, Parts, Raw

__all__ = ["BANDS", "frames", "read_waves"]

RATE = 8000
WINDOW, HOP, POINTS = 200, 80, 256  # 25 ms every 10 ms
BANDS = 32
LOWEST, HIGHEST = 60.0, 4000.0
FLOOR = 1e-6  # of full scale: what digital silence has instead of minus infinity
KEYS = tuple(f"{key}_{part}" for part in ("train", "test") for key in ("wav", "off", "y"))


def read_waves(paths: tuple[Path, ...]) -> Parts:
    """``wav_*`` holds one recording after another, ``off_*`` where each begins."""
    arrays = read_npz(paths[0], KEYS)

    def part(name: str) -> list[Array]:
        waves, offsets = arrays[f"wav_{name}"], arrays[f"off_{name}"]
        return [waves[a:b] for a, b in pairwise(offsets)]

    return (
        sequences(part("train"), arrays["y_train"]),
        sequences(part("test"), arrays["y_test"]),
    )


def sequences(waves: list[Array], labels: Array) -> Raw:
    """Frames ``(n, L, bands)``, zeros after the end of each, and their number."""
    found = [frames(wave) for wave in waves]
    lengths = np.array([len(each) for each in found])
    x = np.zeros((len(found), lengths.max(), BANDS), np.float32)
    for row, each in zip(x, found, strict=True):
        row[: len(each)] = each

    return Raw(x, labels, lengths)


def frames(wave: Array) -> Array:
    """``(L, bands)``: the logarithm of the mean power in bands of equal width on the mel scale.

    Windows of 25 ms (Hann) every 10 ms, the last filled with zeros; int16 samples at 8 kHz.
    """
    samples = torch.from_numpy(wave.astype(np.float32) / 2**15)
    missing = max(WINDOW - len(samples), -(len(samples) - WINDOW) % HOP)
    windows = torch.nn.functional.pad(samples, (0, missing)).unfold(0, WINDOW, HOP)
    spectrum = torch.fft.rfft(windows * torch.hann_window(WINDOW), POINTS)
    power = spectrum.abs().square() / POINTS
    found: Array = (power @ _bands() + FLOOR).log().numpy()

    return found


def _bands() -> Tensor:
    """Triangles ``(frequencies, bands)``, each of sum 1."""
    frequencies = torch.fft.rfftfreq(POINTS, 1 / RATE)
    corners = _hertz(torch.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2))
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies[:, None] - low) / (middle - low)
    falling = (high - frequencies[:, None]) / (high - middle)
    triangles = torch.minimum(rising, falling).clamp(min=0)

    return triangles / triangles.sum(0)


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))


def _hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
