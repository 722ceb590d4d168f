"""Resizing by parts equals the whole, agrees with Pillow, and keeps constants and ramps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lamella.core.rng import stream
from lamella.ops.resize import resize, scaled_range, source_range


def whole(image, *scales):
    results = [scaled_range(0, n, s) for n, s in zip(image.shape, scales, strict=True)]
    return resize(image, (0,) * image.ndim, results, scales)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 1.5, 3.0])
def test_it_is_the_linear_filter_of_pillow(scale):
    image = stream(0).random((40, 60)).astype(np.float32)
    size = (round(60 * scale), round(40 * scale))
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    np.testing.assert_allclose(whole(image, scale, scale), expected, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0.2, 0.37, 0.5, 1.0, 1.3, 2.0]), st.integers(0, 25), st.integers(1, 25), st.integers(-7, 7))
def test_a_part_equals_the_part_of_the_whole(scale, first, length, origin):
    line = stream(3).random(50).astype(np.float32)
    bounds = (origin, origin + 50)
    low, high = scaled_range(*bounds, scale)
    start = min(low + first, high - 1)
    stop = min(start + length, high)
    all_ = resize(line, (origin,), [(low, high)], [scale])
    a, b = source_range(start, stop, scale, bounds)
    part = resize(line[a - origin : b - origin], (a,), [(start, stop)], [scale])
    np.testing.assert_allclose(part, all_[start - low : stop - low], atol=1e-6)


def test_constants_stay_and_ramps_stay_ramps():
    np.testing.assert_allclose(whole(np.full((5, 7, 9), 3.0), 2.0, 0.5, 0.3), 3, atol=1e-6)
    ramp = whole(np.arange(64.0), 0.25)
    np.testing.assert_allclose(ramp[1:-1], 4 * np.arange(1, 15) + 1.5, atol=1e-4)
