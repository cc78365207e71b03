"""Spoken digits: recordings to frames of band energies."""

import re
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ._npz import pieces, read_npz
from ._raw import Array, Parts, Raw, parsing, refused

__all__ = ["BANDS", "frames", "read_recordings", "read_waves"]

RATE = 8000
WINDOW, HOP, POINTS = 200, 80, 256  # 25 ms every 10 ms
BANDS = 32
LOWEST, HIGHEST = 60.0, 4000.0
FLOOR = 1e-6  # of full scale: what digital silence has instead of minus infinity
KEYS = tuple(f"{key}_{part}" for part in ("train", "test") for key in ("wav", "off", "y"))
NAME = re.compile(r"(\d)_(\w+)_(\d+)\.wav")
TEST = 5  # recordings 0 to 4 of every digit and speaker test


def read_waves(paths: tuple[Path, ...]) -> Parts:
    """``wav_*`` holds one recording after another, ``off_*`` where each begins."""
    path = paths[0]
    arrays = read_npz(path, KEYS)

    def part(name: str) -> Raw:
        waves = pieces(path, f"wav_{name}", arrays[f"wav_{name}"], arrays[f"off_{name}"], "int16")
        return _sequences(waves, arrays[f"y_{name}"])

    return part("train"), part("test")


def read_recordings(paths: tuple[Path, ...]) -> Parts:
    """A folder of ``DIGIT_SPEAKER_NUMBER.wav``."""
    found: dict[bool, list[tuple[Array, int]]] = {True: [], False: []}
    for path in sorted(paths[0].glob("*.wav")):
        named = NAME.fullmatch(path.name)
        if named is None:
            rule = "a recording must be named DIGIT_SPEAKER_NUMBER.wav"
            raise refused(paths[0], rule, f"{path.name}")
        found[int(named[3]) < TEST].append((_samples(path), int(named[1])))
    if not (found[True] and found[False]):
        rule = f"recordings from {TEST} on and before must be there, to train and to test"
        raise refused(paths[0], rule, f"{len(found[False])} and {len(found[True])}")

    def part(test: bool) -> Raw:
        waves, labels = zip(*found[test], strict=True)
        return _sequences(waves, np.array(labels))

    return part(False), part(True)


def _samples(path: Path) -> Array:
    rule = f"a recording must be whole, {RATE} Hz, one channel, 16 bits"
    with parsing(path, ".wav file"), wave.open(str(path)) as file:
        form = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
        content, count = file.readframes(file.getnframes()), file.getnframes()
    if form != (RATE, 1, 16) or len(content) != 2 * count:
        got = "{} Hz, {} channels, {} bits".format(*form)
        raise refused(path, rule, f"{got}, {len(content)} of {2 * count} bytes")

    return np.frombuffer(content, "<i2")


def _sequences(waves: Iterable[Array], labels: Array) -> Raw:
    """Frames ``(n, L, bands)``, zeros after the end of each, and their number."""
    found = [frames(each) for each in waves]
    lengths = np.array([len(each) for each in found])
    x = np.zeros((len(found), lengths.max(), BANDS), np.float32)
    for row, each in zip(x, found, strict=True):
        row[: len(each)] = each

    return Raw(x, labels, lengths)


def frames(samples: Array) -> Array:
    """``(L, bands)``: the logarithm of the mean power in bands of equal width on the mel scale.

    Windows of 25 ms (Hann) every 10 ms, the last filled with zeros; int16 samples at 8 kHz.
    """
    signal = torch.from_numpy(samples.astype(np.float32) / 2**15)
    missing = max(WINDOW - len(signal), -(len(signal) - WINDOW) % HOP)
    windows = torch.nn.functional.pad(signal, (0, missing)).unfold(0, WINDOW, HOP)
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
