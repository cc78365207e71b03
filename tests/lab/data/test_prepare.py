"""What is done to raw values, against the same done by hand."""

import numpy as np
import pytest
import torch
from sklearn import datasets

from batchnorm.lab.data import load

RAW = torch.from_numpy(datasets.load_digits().images).float()[:1200, None] / 16


def test_images_are_in_the_unit_interval():
    assert torch.equal(load("digits").x_train, RAW)
    colours = load("digits_m").x_train
    assert colours.shape == (1200, 3, 8, 8)
    assert 0 <= colours.min() < colours.max() <= 1


def test_flat_is_row_by_row():
    data = load("digits", flat=True)

    assert torch.equal(data.x_train, RAW.reshape(1200, 64))
    assert (data.shape, data.features) == ((64,), 64)


def test_rows_are_steps_with_the_channels_of_a_row_beside_each_other():
    colours = load("digits_m").x_train
    data = load("digits_m", rows=True)

    assert data.x_train.shape == (1200, 8, 24)
    for row in range(8):
        assert torch.equal(data.x_train[:, row], colours[:, :, row].flatten(1))
    assert data.lengths_train is None


def test_smaller_images_are_means_of_areas():
    data = load("digits", size=4)

    assert torch.allclose(data.x_train, RAW.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))


def test_larger_images_keep_their_mean_brightness():
    data = load("digits", size=16)

    assert data.x_train.shape == (1200, 1, 16, 16)
    torch.testing.assert_close(data.x_train.mean(), RAW.mean(), rtol=1e-3, atol=0)


def test_same_size_changes_nothing():
    assert torch.equal(load("digits", size=8).x_train, RAW)


def test_binary_splits_at_half():
    assert torch.equal(load("digits", binary=True).x_train, (RAW >= 0.5).float())


def test_images_are_standardised_by_channel_of_what_trains():
    raw, data = load("digits_m"), load("digits_m", standard=True)

    mean = raw.x_train.mean((0, 2, 3), keepdim=True)
    std = raw.x_train.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(data.x_train, (raw.x_train - mean) / std)
    torch.testing.assert_close(data.x_test, (raw.x_test - mean) / std)


def test_tables_are_standardised_by_feature_of_what_trains():
    raw, data = load("wine"), load("wine", standard=True)

    mean, std = raw.x_train.mean(0), raw.x_train.std(0, correction=0)
    torch.testing.assert_close(data.x_test, (raw.x_test - mean) / std, rtol=1e-4, atol=1e-4)


def test_constant_features_become_zero():
    data = load("digits", flat=True, standard=True)
    assert data.x_train.isfinite().all()  # by channel: the corners of all digits are black

    from batchnorm.lab.data._standard import standardise

    train, test = torch.full((3, 2), 0.1), torch.tensor([[0.1, 0.6]])
    standardise(train, test, [None, None])
    assert train.eq(0).all()
    torch.testing.assert_close(test, torch.tensor([[0.0, 0.5]]))


def test_a_smaller_part_lies_in_a_larger_one():
    whole, many, few = (load("digits", train=n, flat=True) for n in (None, 300, 50))

    def rows(data):
        return {tuple(row) for row in data.x_train.tolist()}

    assert len(few.x_train) == 50
    assert rows(few) < rows(many) < rows(whole)
    assert not torch.equal(few.x_train, whole.x_train[:50])  # chosen by chance
    assert len(few.x_test) == 597


def test_more_than_there_is_is_all():
    data = load("digits", train=5000, test=7)

    assert (len(data.x_train), len(data.x_test)) == (1200, 7)


def test_preparation_says_what_was_done():
    data = load("digits", train=1000, size=4, rows=True, standard=True, binary=True)

    assert data.preparation.endswith(
        "; at most 1,000 examples, chosen by chance, train; resized to 4×4; "
        "made binary (1 where the level is at least half); standardised by channel; "
        "its rows as steps in time"
    )
    assert load("wine", flat=True).preparation == "raw features; a random quarter tests"


@pytest.mark.parametrize(
    "options",
    [{"train": 100}, {"size": 4}, {"flat": True}, {"rows": True}, {"standard": True}],
)
def test_digest_follows_the_options(options: dict):
    assert load("digits", **options).digest != load("digits").digest
    assert load("digits", **options).digest == load("digits", None, **options).digest


def test_same_bits_each_time():
    first = load("digits_m", train=100)
    load.cache_clear()

    assert torch.equal(load("digits_m", train=100).x_train, first.x_train)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"train": 0}, r"counts are positive. Got train=0"),
        ("digits", {"size": -1}, r"counts are positive. Got size=-1"),
        ("digits", {"flat": True, "rows": True}, "Got flat=True, rows=True. Use flat or rows"),
        ("wine", {"size": 4}, "this is for images. Got size for a dataset of table"),
        ("wine", {"rows": True}, "this is for images. Got rows"),
        ("wine", {"binary": True}, "this is for images. Got binary"),
        ("spoken_digits", {"size": 4}, "Got size for a dataset of sequences"),
    ],
)
def test_steps_that_make_no_sense_are_refused(name: str, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


def test_numbers_are_standardised_by_what_trains():
    data = load("diabetes")
    _, y = datasets.load_diabetes(return_X_y=True, scaled=False)

    assert data.classes == 0
    assert data.constant_loss == pytest.approx(1)
    assert np.isnan(data.constant_accuracy)
    both = torch.cat([data.y_train, data.y_test]).double().sort().values.numpy()
    slope = np.ptp(y) / np.ptp(both)
    np.testing.assert_allclose((both - both[0]) * slope, np.sort(y) - y.min(), atol=1e-4)
