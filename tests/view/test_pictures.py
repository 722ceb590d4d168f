"""Pictures and charts show what they are given."""

import imageio.v3 as iio
import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.view import charts, pictures


@pytest.fixture
def section() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (40, 60)).astype(np.uint8)


def test_grey_stretches_and_marks_missing(section):
    section[0, 0] = 0
    shown = pictures.grey(section, (0.0, 255.0))
    assert shown.shape == (40, 60, 3)
    assert len(set(shown[0, 0])) == 3
    np.testing.assert_allclose(shown[1:, :, 0], section[1:], atol=1)
    whole = pictures.grey(np.zeros((4, 4)))
    assert (whole == whole[0, 0]).all()


def test_field_colour_tells_direction_and_length():
    field = np.zeros((2, 1, 4), np.float32)
    field[1, 0] = [0, 5, 10, -10]
    still, half, right, left = pictures.field_colour(field, 10.0)[0].astype(int)
    assert still.tolist() == [255, 255, 255]
    assert half[1] > right[1]
    assert np.abs(right - left).sum() > 200
    np.testing.assert_array_equal(pictures.field_colour(field * 7, 70.0), pictures.field_colour(field, 10.0))


def test_legend_is_coloured_by_the_same_rule():
    legend = pictures.field_legend(101)
    east = pictures.field_colour(np.array([[[0.0]], [[1.0]]]), 1.0)[0, 0]
    np.testing.assert_allclose(legend[50, 99].astype(int), east, atol=6)
    assert (legend[0, 0] == 255).all()


def test_unknown_values_have_their_own_colour():
    values = np.array([[0.0, np.nan, 2.0]])
    shown = pictures.heat(values, 2.0)
    assert shown[0, 1].tolist() == pictures.field_colour(np.full((2, 1, 1), np.nan), 1.0)[0, 0].tolist()
    assert shown[0, 2].sum() > shown[0, 0].sum()


def test_checkerboard_and_overlay_of_one_picture_are_that_picture(section):
    a = pictures.grey(section)
    np.testing.assert_array_equal(pictures.checkerboard(a, a, 8), a)
    np.testing.assert_array_equal(pictures.overlay(a, a), a)
    b = np.zeros_like(a)
    mixed = pictures.checkerboard(a, b, 8)
    np.testing.assert_array_equal(mixed[:8, :8], a[:8, :8])
    assert not mixed[:8, 8:16].any()


def test_cross_section_repeats_sections():
    stack = np.array([[1, 2], [3, 4]])
    assert pictures.cross_section(stack, 2.5)[:, 0].tolist() == [1, 1, 1, 3, 3]
    assert pictures.cross_section(stack, 0.1).shape == (2, 2)


def test_shrink_keeps_the_mean():
    image = np.arange(64, dtype=np.float64).reshape(8, 8)
    small = pictures.shrink(image, 4)
    assert small.shape == (4, 4)
    assert small.mean() == image.mean()
    assert pictures.shrink(image, 8) is image


def test_beside_places_pictures(section):
    a = pictures.grey(section)
    sheet = pictures.beside([a, a, a], gap=4, columns=2)
    assert sheet.shape == (84, 124, 3)
    np.testing.assert_array_equal(sheet[44:, :60], a)
    assert (sheet[44:, 64:] == 255).all()


def test_png_and_gif_come_back(section):
    a = pictures.grey(section)
    np.testing.assert_array_equal(iio.imread(pictures.png(a)), a)
    frames = iio.imread(pictures.gif([a, 255 - a]), index=None)
    assert frames.shape[:3] == (2, 40, 60)
    with pytest.raises(UserError, match="one shape"):
        pictures.gif([a, a[1:]])


def test_charts_are_pictures_and_repeat():
    x = np.arange(5)
    series = {"a": x * 1.0, "b": [1, np.nan, 2, 3, 1]}
    drawn = charts.lines(x, series, "section", "px", bands={"a": (x - 1.0, x + 1.0)}, markers=True)
    assert iio.imread(drawn).shape[2] == 4
    assert drawn == charts.lines(x, series, "section", "px", bands={"a": (x - 1.0, x + 1.0)}, markers=True)
    assert iio.imread(charts.shares(np.arange(8), {"r": np.arange(7), "none": np.zeros(7)}, "r", coarsen=3)).ndim == 3
