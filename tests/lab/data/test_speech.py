"""Frames of recordings: what a tone gives, where it ends, and the two ways to read them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from batchnorm.lab.data import load
from batchnorm.lab.data._speech import BANDS, FLOOR, frames
from tests.lab.data import files


@pytest.mark.parametrize(
    ("samples", "count"), [(1, 1), (200, 1), (201, 2), (280, 2), (281, 3), (1000, 11)]
)
def test_a_window_every_ten_milliseconds(samples: int, count: int):
    assert frames(files.tone(500, samples)).shape == (count, BANDS)


def test_silence_is_the_floor():
    np.testing.assert_allclose(frames(np.zeros(300, np.int16)), np.log(FLOOR), rtol=1e-6)


@pytest.mark.parametrize("hertz", [300, 700, 1500, 3000])
def test_a_tone_is_loudest_in_its_band(hertz: float):
    def mel(value: float) -> float:
        return 2595 * np.log10(1 + value / 700)

    low, high = mel(60), mel(4000)
    expected = (mel(hertz) - low) / (high - low) * (BANDS + 1) - 1

    found = frames(files.tone(hertz, 2000)).mean(0).argmax()

    assert abs(found - expected) <= 1


def test_half_the_amplitude_is_a_quarter_of_the_power():
    loud = files.tone(1000, 1000)
    band = frames(loud).mean(0).argmax()

    louder = frames(loud)[1:-2, band] - frames((loud // 2).astype(np.int16))[1:-2, band]

    np.testing.assert_allclose(louder, np.log(4), rtol=1e-3)


def test_recordings_are_padded_with_zeros(tmp_path: Path):
    files.write_waves(tmp_path)

    data = load("spoken_digits", tmp_path)

    lengths = [len(frames(item[3])) for item in files.RECORDINGS]
    assert data.lengths_test.tolist() == [lengths[0], lengths[3]]
    assert data.lengths_train.tolist() == [lengths[1], lengths[2]]
    assert data.x_train.shape == (2, lengths[2], BANDS)
    assert data.x_train[0, lengths[1] :].eq(0).all()
    expected = torch.from_numpy(frames(files.RECORDINGS[1][3]))
    assert torch.equal(data.x_train[0, : lengths[1]], expected)
    assert data.y_train.tolist() == [3, 7]


def test_waves_of_another_type_are_refused(tmp_path: Path):
    files.write_waves(tmp_path, wav_train=np.zeros(1360, np.float32))

    with pytest.raises(ValueError, match=r"wav_train must be int16 of shape \(n,\). Got float32"):
        load("spoken_digits", tmp_path)


def test_a_folder_of_recordings_is_the_same(tmp_path: Path):
    (tmp_path / "one").mkdir()
    files.write_waves(tmp_path / "one")
    files.write_recordings(tmp_path / "two" / "free-spoken-digit-dataset" / "recordings")

    archive, folder = (load("spoken_digits", tmp_path / place) for place in ("one", "two"))

    for name in ("x_train", "x_test", "y_train", "y_test", "lengths_train", "lengths_test"):
        assert torch.equal(getattr(archive, name), getattr(folder, name))


def test_standardised_by_what_is_no_padding(tmp_path: Path):
    files.write_waves(tmp_path)

    raw, data = load("spoken_digits", tmp_path), load("spoken_digits", tmp_path, standard=True)

    within = torch.arange(data.x_train.shape[1]) < data.lengths_train[:, None]
    known, found = raw.x_train[within].double(), data.x_train[within].double()
    rounding = torch.finfo(torch.float32).eps * known.abs().amax(0) / known.std(0, correction=0)
    assert (found.mean(0).abs() <= rounding).all()
    assert (found.std(0, correction=0).sub(1).abs() <= rounding).all()
    assert data.x_train[~within].eq(0).all()
    assert data.x_test[0, data.lengths_test[0] :].eq(0).all()


def test_recording_of_another_kind_is_refused(tmp_path: Path):
    folder = tmp_path / "recordings"
    files.write_recordings(folder)
    files.write_wave(folder / "3_ann_0.wav", files.tone(500, 90), rate=16000)

    with pytest.raises(ValueError, match="8000 Hz, one channel, 16 bits. Got 16000 Hz"):
        load("spoken_digits", tmp_path)


@pytest.mark.parametrize("keep", [0, 20, 500])
def test_truncated_recording_is_refused(tmp_path: Path, keep: int):
    folder = tmp_path / "recordings"
    files.write_recordings(folder)
    path = folder / "3_ann_0.wav"
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ValueError, match="must be (a )?whole"):
        load("spoken_digits", tmp_path)


def test_recording_with_another_name_is_refused(tmp_path: Path):
    files.write_recordings(tmp_path / "recordings")
    files.write_wave(tmp_path / "recordings" / "three.wav", files.tone(500, 90))

    with pytest.raises(ValueError, match=r"DIGIT_SPEAKER_NUMBER.wav. Got three.wav"):
        load("spoken_digits", tmp_path)


def test_folder_with_nothing_to_test_is_refused(tmp_path: Path):
    folder = tmp_path / "recordings"
    files.write_recordings(folder)
    for path in (folder / "3_ann_0.wav", folder / "9_bob_4.wav"):
        path.unlink()

    with pytest.raises(ValueError, match="Got 2 and 0"):
        load("spoken_digits", tmp_path)
