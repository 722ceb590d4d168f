"""Thresholds worked out by hand, masks of known discs, and what empty images give."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from skimage.morphology import disk, opening

from lamella.core.rng import stream
from lamella.ops.threshold import foreground_mask, opened, otsu_threshold, threshold, unimodal_threshold

SIZE = (80, 100)


def discs(radius=12, bright=3000.0, noise=30.0):
    """Two discs on a ground of 200, and where they are."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = (np.hypot(y - 30, x - 30) <= radius) | (np.hypot(y - 45, x - 75) <= radius)
    return np.where(mask, bright, 200) + stream(0).normal(0, noise, SIZE), mask


def test_otsu_is_that_of_scikit_image_on_the_stretched_scale():
    image, _ = discs()
    low, high = np.percentile(image, (1, 99))
    levels = np.rint(np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    assert otsu_threshold(image, 1.0) == pytest.approx(low + threshold_otsu(levels) / 255 * (high - low))
    assert otsu_threshold(image) - low == pytest.approx(1.1 * (otsu_threshold(image, 1.0) - low))


def test_the_unimodal_threshold_is_where_the_histogram_bends():
    # counts fall from 1000 by 100 in each of the first 10 bins, then by 1: the bend is at bin 10
    counts = np.concatenate([1000 - 100 * np.arange(10), 90 - np.minimum(np.arange(246), 80)])
    values = np.repeat(np.arange(256), counts)
    step = (np.percentile(values, 99.5) - 0) / 256
    assert abs(unimodal_threshold(values) - 10 * 255 / 256) < 3 * step


@pytest.mark.parametrize("method", ["otsu", "unimodal"])
def test_discs_are_found(method):
    image, truth = discs()
    mask = foreground_mask(image.astype(np.uint16), method)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_holes_are_filled_by_the_unimodal_mask():
    image, truth = discs()
    image[28:33, 28:33] = 200
    assert foreground_mask(image, "unimodal")[30, 30]
    assert not foreground_mask(image, "otsu")[30, 30]
    assert truth[30, 30]


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_opening_is_that_with_a_disk(radius):
    mask = stream(radius).random((60, 70)) > 0.2
    mask[10:40, 10:50] = True
    mask[20, 0:70] = True
    padded = np.pad(mask, 2 * radius, mode="edge")
    expected = opening(padded, disk(radius))[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    # where the disk is cut by the edge, padding and distances differ in what lies beyond it
    inner = (slice(2 * radius, -2 * radius),) * 2
    np.testing.assert_array_equal(opened(mask, radius)[inner], expected[inner])


@pytest.mark.parametrize("method", ["otsu", "unimodal"])
def test_a_constant_image_has_no_foreground(method):
    assert not foreground_mask(np.full(SIZE, 7, np.uint16), method).any()


def test_one_threshold_of_all_images_leaves_an_empty_one_empty():
    """A threshold of each image alone finds specimen in noise; the pooled one does not, whatever images there are."""
    image, truth = discs()
    empty = stream(1).normal(200, 30, SIZE)
    level = threshold(np.concatenate([image.ravel(), empty.ravel()]), "otsu")
    assert foreground_mask(empty, radius=0).mean() > 0.2
    assert not foreground_mask(empty, radius=0, level=level).any()
    assert (foreground_mask(image, level=level) & truth).sum() > 0.8 * truth.sum()
