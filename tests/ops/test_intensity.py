"""Intensities of images: linear per channel, blind to brightness and contrast, and the same for a part as for the whole."""

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.ops.intensity import Factor, MinMax, Percentile, Range, ZScore

MEASURED = [Percentile(), Percentile(low=5, high=90, clip=True), MinMax(), ZScore()]


def image(dtype=np.float64, shape=(2, 30, 40)):
    values = np.random.default_rng(0).gamma(2.0, 30.0, shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(values).astype(dtype)


@pytest.mark.parametrize("config", MEASURED, ids=lambda c: c.kind)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_brightness_and_contrast_change_nothing(config, dtype):
    values = image(dtype)
    brighter = values.astype(np.float64) * 3 + 100
    assert np.allclose(config.measure(values)(values), config.measure(brighter)(brighter), atol=1e-4)


@pytest.mark.parametrize(
    "config", [*MEASURED, Range(low=(3,), high=(90.0, 200.0)), Factor(factor=0.25)], ids=lambda c: c.kind
)
def test_a_part_of_the_scaled_image_is_the_scaled_part(config):
    values = image(np.uint16)
    scaling = config.measure(values)
    assert scaling(values).dtype == np.float32
    assert np.array_equal(scaling(values)[:, 3:9, 5:20], scaling(values[:, 3:9, 5:20]))


def test_percentiles_by_hand():
    values = np.arange(1001, dtype=np.uint16)[None]
    scaled = Percentile(low=10, high=60).measure(values)(values)[0]
    assert scaled[[100, 350, 600, 1000]] == pytest.approx([0, 0.5, 1, 1.8])
    clipped = Percentile(low=10, high=60, clip=True).measure(values)(values)[0]
    assert clipped[[0, 350, 1000]] == pytest.approx([0, 0.5, 1])


def test_default_percentiles_are_those_of_numpy():
    values = image(np.uint8)
    low, high = np.percentile(values[1], (1, 99.8))
    assert np.allclose(Percentile().measure(values)(values)[1], (values[1] - low) / (high - low), atol=1e-6)


def test_channels_have_their_own_statistics():
    values = np.stack([np.arange(12.0), np.arange(12.0) * 50 + 7])
    scaled = MinMax().measure(values)(values)
    assert np.allclose(scaled[0], scaled[1])
    assert scaled.min() == 0
    assert scaled.max() == 1


@pytest.mark.parametrize("config", MEASURED, ids=lambda c: c.kind)
def test_a_constant_channel_becomes_zero(config):
    values = np.stack([np.full((5, 6), 77, np.uint8), image(np.uint8)[0, :5, :6]])
    scaled = config.measure(values)(values)
    assert (scaled[0] == 0).all()
    assert scaled[1].std() > 0


def test_large_offsets_lose_nothing():
    values = (image(np.float64) + 1e9).astype(np.float64)
    scaled = ZScore().measure(values)(values)
    assert scaled.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.std(axis=(1, 2)) == pytest.approx(1, abs=1e-5)


def test_given_ranges_need_no_image():
    config = Range(low=(100.0,), high=(300.0,), clip=True)
    values = np.array([[0, 100, 200, 400]], np.uint16)
    assert config.measure(values[:, :1])(values).tolist() == [[0, 0, 0.5, 1]]


def test_what_cannot_be_measured_is_told():
    nan = np.full((1, 4, 4), np.nan, np.float32)
    with pytest.raises(UserError, match="NaN or infinity"):
        Percentile().measure(nan)
    with pytest.raises(UserError, match="3 numbers, the images have 2 channels"):
        Range(low=(0,), high=(1, 2, 3)).measure(image())
    with pytest.raises(UserError, match="integers or floats, not complex"):
        MinMax().measure(image().astype(complex))
    with pytest.raises(UserError, match="1 channels does not fit statistics of 2"):
        MinMax().measure(image())(image()[:1])
    with pytest.raises(UserError, match=r"low 50\.0 must be below high 40"):
        Percentile.load({"low": 50, "high": 40})
    with pytest.raises(UserError, match="must be below high"):
        Range.load({"low": [5], "high": [5]})


def test_a_factor_is_all_that_is_applied():
    values = image(np.uint16)
    assert np.array_equal(Factor(factor=0.25).measure(values)(values), (values / 4).astype(np.float32))
