"""Laws of downsampling by groups of voxels: means by hand, blocks equal the whole, labels gain no values."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.ops.downsample import downsample_max, downsample_mean, downsample_mode

few_values = st.integers(0, 5)
shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@st.composite
def cases(draw, values=few_values):
    shape = draw(shapes)
    factor = tuple(draw(st.integers(1, 4)) for _ in shape)
    start = tuple(draw(st.integers(-7, 7)) for _ in shape)
    flat = draw(st.lists(values, min_size=prod(shape), max_size=prod(shape)))
    return np.array(flat, np.uint8).reshape(shape), factor, start


def groups(array, factor, start):
    """The slow and obvious way: every coarse voxel's box, cut out of the fine array."""
    fine = Box(start, tuple(s + n for s, n in zip(start, array.shape, strict=True)))
    coarse = fine.scale(factor)
    for place in np.ndindex(*coarse.shape):
        low = tuple((c + p) * f for c, p, f in zip(coarse.start, place, factor, strict=True))
        box = Box(low, tuple(a + f for a, f in zip(low, factor, strict=True))).intersect(fine)
        yield place, array[box.slices(start)]


@given(cases())
@settings(max_examples=60, deadline=None)
def test_each_coarse_voxel_is_the_rounded_mean_of_the_voxels_it_stands_for(case):
    array, factor, start = case
    result = downsample_mean(array, factor, start=start)
    for place, voxels in groups(array, factor, start):
        assert result[place] == np.rint(voxels.mean())


@given(cases(values=st.sampled_from([0, 0, 1, 9])))
@settings(max_examples=60, deadline=None)
def test_missing_voxels_do_not_darken_their_neighbours_if_ignored(case):
    array, factor, start = case
    result = downsample_mean(array, factor, start=start, ignore_zero=True)
    for place, voxels in groups(array, factor, start):
        present = voxels[voxels != 0]
        assert result[place] == (np.rint(present.mean()) if present.size else 0)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_labels_take_the_most_frequent_value_and_the_largest_of_several(case):
    array, factor, start = case
    result = downsample_mode(array, factor, start=start)
    for place, voxels in groups(array, factor, start):
        counts = np.bincount(voxels.ravel())
        assert result[place] == np.flatnonzero(counts == counts.max()).max()


@pytest.mark.parametrize("downsample", [downsample_mean, downsample_mode, downsample_max])
def test_blocks_cut_at_multiples_of_the_factor_equal_the_whole(downsample):
    array = np.random.default_rng(0).integers(0, 9, (7, 11), dtype=np.uint16)
    start, factor = (-3, 5), (2, 3)
    whole = downsample(array, factor, start=start)
    top, left = 0 - start[0], 9 - start[1]  # coordinates 0 along y and 9 along x are multiples of the factors
    parts = [
        [downsample(array[:top, :left], factor, start=(-3, 5)), downsample(array[:top, left:], factor, start=(-3, 9))],
        [downsample(array[top:, :left], factor, start=(0, 5)), downsample(array[top:, left:], factor, start=(0, 9))],
    ]
    # row -3 alone makes the coarse row -2, so the top holds two coarse rows
    np.testing.assert_array_equal(np.block(parts), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
def test_a_constant_image_stays_and_so_does_the_dtype(dtype):
    array = np.full((5, 6, 7), 3, dtype)
    result = downsample_mean(array, (2, 2, 2))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.full((3, 3, 4), 3, dtype))


def test_repeated_halving_does_not_brighten():
    array = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    mean = array.mean()
    for _ in range(6):
        array = downsample_mean(array, (2, 2))
    assert abs(array.mean() - mean) < 0.2


def test_large_labels_survive():
    labels = np.array([2**63 + 1, 2**63 + 1, 2**63 + 3], np.uint64)
    assert downsample_mode(labels, (3,)).tolist() == [2**63 + 1]


def test_a_factor_for_every_axis_is_needed():
    with pytest.raises(UserError, match="2 axes"):
        downsample_mean(np.ones((4, 4)), (2,))
